from __future__ import annotations

import math

import numpy as np
import pytest

from plaudit.core.intervals import Interval
from plaudit.zoo.drawing import BLUE, GREY, ORANGE, Series, band, interval, interval_rows, panels, title

WIDE, NARROW = Interval(0.5, 0.2, 0.7, 9), Interval(-0.1, -0.2, 0.0, 9)


@pytest.fixture
def axes():
    return panels(4, 3)[1][0]


def marks(axes):
    """Each interval as (its ends, their place, its mean, its colour), in the order of drawing."""
    bars, dots = axes.lines[::2], axes.lines[1::2]
    return [(tuple(bar.get_xdata()), tuple(bar.get_ydata()), dot.get_xdata()[0], dot.get_markeredgecolor())
            for bar, dot in zip(bars, dots, strict=True)]


def test_rows_go_from_the_top_down_and_series_stand_apart_within_a_row(axes):
    interval_rows(axes, ["first", "second"], Series(values=[WIDE, NARROW], colour=BLUE, label="a"),
                  Series(values=[NARROW, WIDE], colour=[GREY, ORANGE]), apart=0.2)
    ends = {WIDE: (0.2, 0.7), NARROW: (-0.2, 0.0)}
    assert marks(axes) == [(ends[v], pytest.approx((y, y)), v.mean, colour) for v, y, colour in (
        (WIDE, 1.1, BLUE), (NARROW, 0.1, BLUE), (NARROW, 0.9, GREY), (WIDE, -0.1, ORANGE))]
    assert [(t.get_text(), t.get_position()[1]) for t in axes.get_yticklabels()] == [("second", 0), ("first", 1)]
    assert axes.get_legend_handles_labels()[1] == ["a"]  # once, not for each row


def test_a_series_has_a_value_for_each_row(axes):
    with pytest.raises(ValueError, match="zip"):
        interval_rows(axes, ["first", "second"], Series(values=[WIDE]))


def test_an_unknown_interval_is_a_dot_and_stretches_no_axis(axes):
    interval(axes, Interval(0.5, -math.inf, math.inf, 1), 0)
    (ends, _, mean, _), = marks(axes)
    assert (ends, mean) == ((0.5, 0.5), 0.5)
    assert all(map(math.isfinite, axes.get_xlim()))


def test_upright_exchanges_the_axes(axes):
    interval(axes, WIDE, 3, upright=True, hollow=True)
    bar, dot = axes.lines
    assert (tuple(bar.get_xdata()), tuple(bar.get_ydata())) == ((3, 3), (0.2, 0.7))
    assert (dot.get_xdata()[0], dot.get_ydata()[0], dot.get_markerfacecolor()) == (3, 0.5, "white")


def test_a_band_has_no_area_where_it_is_unknown(axes):
    band(axes, [1, 2, 3], [1.0, 2.0, 3.0], [0.5, 1.5, None], [1.5, 2.5, None], colour=BLUE)
    area, = axes.collections[0].get_paths()
    assert (area.vertices[:, 0].max(), area.vertices[:, 1].max()) == (2.0, 2.5)
    assert np.array_equal(axes.lines[0].get_ydata(), [1, 2, 3])


def test_panels_come_row_by_row_in_one_look():
    figure, places = panels(6, 4, rows=2, columns=2, widths=[2, 1], grid="x")
    assert len(figure.axes) == len(places) == 4
    for i, axes in enumerate(places):
        title(axes, str(i))
        axes.set_xlabel("x")
        assert not axes.spines["top"].get_visible()
        assert axes.xaxis.label.get_size() == 8.5
        assert axes.xaxis.get_gridlines()[0].get_visible()
        assert not axes.yaxis.get_gridlines()[0].get_visible()
    figure.draw_without_rendering()
    boxes = [axes.get_position() for axes in places]
    assert boxes[0].x0 < boxes[1].x0 and boxes[0].y0 > boxes[2].y0
    assert boxes[0].width > 1.5 * boxes[1].width
