"""The page of a report: self-contained, honest about what it does not know, and drawn from the right numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from plaudit.auditing.audit import audit
from plaudit.auditing.flaws import boat_race
from plaudit.auditing.report import figures
from plaudit.auditing.report.film import Film, captions, gif, shoot
from plaudit.auditing.report.model import AuditReport
from plaudit.auditing.report.page import page, show
from plaudit.auditing.report.surface import surfaces
from plaudit.core.episodes import Episodes
from plaudit.core.functions import reward
from plaudit.core.statistics import Interval
from plaudit.tasks.classic import CartPole


@pytest.fixture(scope="module")
def report() -> AuditReport:
    flaw = boat_race.farmed_checkpoints()
    return audit(boat_race.reward, env=flaw.task(), intent=flaw.intent(), steps=20_000, only=["exploit"])


@pytest.fixture(scope="module")
def bare() -> AuditReport:
    """The report of an audit that searched nothing."""
    flaw = boat_race.farmed_checkpoints()
    return audit(boat_race.reward, env=flaw.task(), intent=flaw.intent(), steps=2_000, only=["distance"])


def test_the_page_holds_the_verdict_the_pictures_and_the_replay_and_needs_nothing_from_outside(
        report: AuditReport) -> None:
    text = page(report)
    assert report.verdict.safe is False and "Not safe to optimise" in text
    assert text.count("data:image/png;base64,") >= 6 and "data:image/gif;base64," in text
    assert text.count("<svg") == 4 and "plaudit replay witness-01.json" in text
    links = set(re.findall(r"(?:src|href|url\()\s*=?\s*[\"'(]?(https?://[^\"')\s]+)", text))
    assert not {link for link in links if "w3.org" not in link}, "the page loads something from outside"
    assert "nan" not in re.sub(r"<[^>]*>", " ", text).lower().split()


def test_names_from_outside_are_escaped(bare: AuditReport) -> None:
    nasty = replace(bare, target="<script>alert(1)</script>")
    assert "<script>" not in page(nasty)


def test_the_page_stands_without_any_search(bare: AuditReport) -> None:
    assert bare.verdict.safe is None and "Cannot tell" in page(bare)


def test_a_notebook_shows_the_page_in_a_frame(bare: AuditReport) -> None:
    assert bare._repr_html_().startswith("<iframe srcdoc=")


@pytest.mark.parametrize(("value", "text"), [(Interval(2.0, 2.0, 2.0, 8), "2"), (0.123456, "0.1235"),
                                             (12_000, "12,000"), (True, "yes"), ("words", "words")])
def test_numbers_are_shown_as_people_read_them(value: object, text: str) -> None:
    assert show(value) == text


def test_an_interval_is_shown_with_its_ends() -> None:
    assert show(Interval(2.0, 1.0, 3.0, 8)) == str(Interval(2.0, 1.0, 3.0, 8))


def test_a_surface_is_drawn_over_the_dimensions_that_move_the_reward() -> None:
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(4000, 5, generator=generator)
    e = Episodes.of_transitions(obs=obs, action=torch.zeros(4000, 1), next_obs=obs)

    def planted(next_obs: Tensor) -> Tensor:
        return next_obs[..., 1] - 3 * next_obs[..., 3]

    (surface, *_) = surfaces(reward(planted), [e], path=None, names=("a", "b", "c", "d", "e"))
    assert (surface.x_name, surface.y_name) == ("b", "d")
    x = np.linspace(*surface.x_range, surface.value.shape[0])[:, None]
    y = np.linspace(*surface.y_range, surface.value.shape[1])[None, :]
    assert np.allclose(surface.value, x - 3 * y, atol=1e-4)


def test_a_reward_that_cannot_be_asked_is_drawn_from_where_behaviours_went() -> None:
    obs = torch.cartesian_prod(torch.arange(3.0), torch.arange(4.0))
    e = Episodes.of_transitions(obs=obs, action=torch.zeros(12), next_obs=obs, env_reward=obs[:, 0] * 10 + obs[:, 1])
    (surface, *_) = surfaces(reward(lambda env_reward: env_reward), [e], path=None)
    assert surface.value.shape == (3, 4)
    assert np.allclose(surface.value, np.arange(3)[:, None] * 10 + np.arange(4)[None])


def test_the_terms_of_a_figure_are_running_totals() -> None:
    svg = figures.terms_over_time([("one", {"a": np.ones(5), "b": -np.ones(5)})])
    assert svg.startswith("<svg") and "NaN" not in svg


def test_a_film_has_the_first_and_the_last_moment_and_what_was_earned_by_then() -> None:
    task = CartPole()
    film = shoot(task, torch.ones(6, dtype=torch.int64), seed=3, most=4)
    assert film is not None and film.steps[0] == 0 and film.steps[-1] == 6 and len(film.frames) == 4
    assert captions([0, 2, 6], [1.0] * 6) == ["step 0 · +0", "step 2 · +2", "step 6 · +6"]
    assert gif(film).startswith(b"GIF89a")
    assert [t for t, _ in Film(film.frames, film.steps).strip(most=2)] == [0, 6]


def test_the_report_can_be_written_twice_into_its_own_folder(bare: AuditReport, tmp_path: Path) -> None:
    folder = bare.save(tmp_path / "a")
    again = bare.save(folder)
    assert sorted(p.name for p in again.iterdir()) == ["junit.xml", "report.html", "report.json", "report.sarif"]
