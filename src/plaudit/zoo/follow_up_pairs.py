"""Pairs of English answers with a known order, of four kinds, for experiment 1: questions and answers written for it.

Relevance: the answer, or that to another question. Correctness: a fact or a sum, or a wrong one. Following: the answer
in the form that was asked for, or not. Informativeness: the answer, or its first words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

KINDS = ("relevance", "correctness", "following", "informativeness")
ANSWERS: tuple[tuple[str, str, str], ...] = (
    ("Why is the sky blue?", "Air scatters the short, blue waves of sunlight more than the long, red ones.",
     "So blue light reaches our eyes from every direction."),
    ("How do bees make honey?", "Bees collect nectar from flowers and carry it to the hive.",
     "There they dry it in the comb until it becomes thick and sweet."),
    ("Why do we sleep?", "Sleep gives the body time to repair itself.", "It also helps the brain to store memories."),
    ("How can I grow tomatoes?", "Plant them in a sunny place and water them every day.",
     "Tie the stems to a stick when they become tall."),
    ("What does a dentist do?", "A dentist looks after teeth and gums.",
     "He fills holes, pulls bad teeth and shows people how to brush."),
    ("Why do cats purr?", "Cats purr when they feel safe and happy.",
     "Sometimes they also purr to calm themselves when they are hurt."),
    ("How does a bicycle stay upright?", "A moving bicycle steers itself under its own weight.",
     "The rider keeps the balance with small turns of the front wheel."),
    ("What is a volcano?", "A volcano is an opening through which melted rock comes to the surface.",
     "The lava cools and slowly builds a mountain."),
    ("How do I boil an egg?", "Put the egg into boiling water for about eight minutes.",
     "Then cool it in cold water so that it is easy to peel."),
    ("Why is exercise healthy?", "Exercise makes the heart and the muscles stronger.",
     "It also lowers stress and helps people to sleep well."),
    ("What is a library for?", "A library lends books to everybody who lives nearby.",
     "People also go there to study and to meet."),
    ("How do birds find their way?", "Birds use the sun, the stars and the magnetic field of the earth.",
     "Many also remember rivers and mountains on their route."),
    ("Why do leaves change colour in autumn?", "In autumn trees stop making the green pigment of their leaves.",
     "Then the yellow and red pigments below it become visible."),
    ("How does soap clean?", "One end of a soap molecule likes water and the other end likes fat.",
     "So soap surrounds the dirt and water carries it away."),
    ("What is inflation?", "Inflation means that prices rise over time.",
     "The same amount of money then buys fewer goods than before."),
    ("How do I learn a new language?", "Practise a little every day and speak as often as you can.",
     "Films and simple books help you to learn new words."),
    ("Why is the sea salty?", "Rain washes minerals out of rocks, and rivers carry them to the sea.",
     "The water evaporates, but the salt stays behind."),
    ("What does a compass show?", "The needle of a compass points to the magnetic north.",
     "With it sailors can keep their course without seeing land."),
    ("How is paper made?", "Wood is ground into fibres and mixed with water.",
     "The wet pulp is pressed flat and dried into sheets."),
    ("Why do people keep dogs?", "Dogs are loyal friends and make their owners go outside.",
     "Some also guard the house or help people who cannot see."),
    ("What causes an earthquake?", "The plates of the earth's crust push against each other.",
     "When they suddenly slip, the ground shakes."),
    ("How does a vaccine work?", "A vaccine shows the body a harmless part of a germ.",
     "The body learns to fight it before a real infection comes."),
    ("Why should I save money?", "Savings help when something breaks or when you lose your job.",
     "They also let you buy larger things without a loan."),
    ("How do fish breathe?", "Fish take in water through the mouth and press it through their gills.",
     "The gills take the oxygen out of the water."),
    ("What is jazz?", "Jazz is a style of music that began in New Orleans.",
     "Its players invent new melodies while they perform."),
    ("How do I clean a window?", "Wipe the glass with warm water and a little vinegar.",
     "Then dry it with a cloth or an old newspaper."),
    ("Why does ice float?", "Water expands when it freezes, so ice is lighter than water.",
     "That is why lakes freeze from the top."),
    ("What does a teacher do?", "A teacher explains new ideas and helps pupils to practise them.",
     "Good teachers also make their pupils curious."),
    ("How can I stop worrying?", "Write down what worries you and what you can do about it.",
     "A walk or a talk with a friend often helps as well."),
    ("What is recycling?", "Recycling turns old paper, glass and metal into new things.",
     "It saves energy and leaves less rubbish."),
    ("Why do we have seasons?", "The axis of the earth is tilted against its path around the sun.",
     "So each half of the earth gets more sunlight in its summer."),
    ("How do I bake bread?", "Mix flour, water, yeast and salt and let the dough rise for an hour.",
     "Then bake it in a hot oven until the crust is brown."),
    ("What is a bank?", "A bank keeps the money of its customers safe.",
     "It lends part of that money to people who pay interest."),
    ("Why do stars twinkle?", "Moving air bends the light of the stars in changing ways.",
     "Seen from space they shine without twinkling."),
    ("How does a refrigerator work?", "A pump moves a cold liquid through pipes inside the box.",
     "The liquid takes up the heat and gives it off at the back."),
    ("What is a novel?", "A novel is a long story that somebody has made up.",
     "It follows its characters over many chapters."),
    ("Why do we cook food?", "Cooking makes food softer and easier to digest.",
     "The heat also kills germs that could make us ill."),
    ("How do planes fly?", "The engines push the plane forward, and air flows over the wings.",
     "The wings press the air down, and this lifts the plane."),
    ("What is the moon made of?", "The moon is made of rock with a small core of iron.",
     "Its surface is covered with grey dust."),
    ("Why do onions make us cry?", "Cutting an onion sets a gas free that irritates the eyes.",
     "Tears then wash it away."),
)
FACTS: tuple[tuple[str, str, str], ...] = (
    ("What is the capital of France?", "The capital of France is Paris.", "The capital of France is Madrid."),
    ("How many legs does a spider have?", "A spider has eight legs.", "A spider has five legs."),
    ("Which planet is closest to the sun?", "Mercury is closest to the sun.", "Neptune is closest to the sun."),
    ("What do cows eat?", "Cows eat grass.", "Cows eat stones."),
    ("Who wrote Hamlet?", "Shakespeare wrote Hamlet.", "Picasso wrote Hamlet."),
    ("How many days are in a week?", "A week has seven days.", "A week has twelve days."),
    ("At what temperature does water freeze?", "Water freezes at zero degrees Celsius.",
     "Water freezes at ninety degrees Celsius."),
    ("Which ocean lies between Europe and America?", "The Atlantic lies between Europe and America.",
     "The Indian Ocean lies between Europe and America."),
    ("What is the opposite of hot?", "The opposite of hot is cold.", "The opposite of hot is green."),
    ("In which country is Tokyo?", "Tokyo is in Japan.", "Tokyo is in Brazil."),
    ("What is the largest animal on earth?", "The blue whale is the largest animal.",
     "The house mouse is the largest animal."),
    ("What colour is a ripe banana?", "A ripe banana is yellow.", "A ripe banana is blue."),
    ("How many hours are in a day?", "A day has twenty-four hours.", "A day has sixty hours."),
    ("What do we use to see?", "We see with our eyes.", "We see with our knees."),
    ("Which metal is attracted by a magnet?", "Iron is attracted by a magnet.", "Gold is attracted by a magnet."),
    ("What is ice?", "Ice is frozen water.", "Ice is burnt sugar."),
    ("Which season is the coldest?", "Winter is the coldest season.", "Summer is the coldest season."),
    ("What is the first letter of the alphabet?", "The first letter is A.", "The first letter is Q."),
    ("Who was the first man on the moon?", "Neil Armstrong was the first man on the moon.",
     "Napoleon was the first man on the moon."),
    ("On which continent is Egypt?", "Egypt is in Africa.", "Egypt is in Australia."),
)
ORDERS: tuple[tuple[str, Callable[[str, str], str], Callable[[str, str], str]], ...] = (
    ("Answer in one sentence only.", lambda a, b: a, lambda a, b: f"{a} {b}"),
    ("Answer in capital letters.", lambda a, b: f"{a} {b}".upper(), lambda a, b: f"{a} {b}"),
    ("Begin your answer with the word Certainly.", lambda a, b: f"Certainly. {a} {b}", lambda a, b: f"{a} {b}"),
    ("Answer as a numbered list.", lambda a, b: f"1. {a}\n2. {b}", lambda a, b: f"{a} {b}"),
)
"""An instruction, what obeys it and what does not, made of an answer's two sentences."""


@dataclass(frozen=True)
class RealPair:
    """A request, a better and a worse answer."""

    kind: str
    prompt: str
    better: str
    worse: str


def make_pairs(each: int, rng: np.random.Generator) -> Mapping[str, list[RealPair]]:
    """`each` pairs of every kind, no question twice within a kind."""
    order = rng.permutation(len(ANSWERS))
    some = [ANSWERS[int(i)] for i in order[:each]]
    out: dict[str, list[RealPair]] = {kind: [] for kind in KINDS}
    for n, (question, first, second) in enumerate(some):
        whole = f"{first} {second}"
        other = ANSWERS[int(order[(n + 1) % len(order)])]
        out["relevance"].append(RealPair("relevance", question, whole, f"{other[1]} {other[2]}"))
        words = whole.split()
        out["informativeness"].append(RealPair("informativeness", question, whole,
                                               " ".join(words[:max(2, round(0.35 * len(words)))])))
        says, obey, ignore = ORDERS[n % len(ORDERS)]
        out["following"].append(RealPair("following", f"{question} {says}", obey(first, second),
                                         ignore(first, second)))
    facts = [FACTS[int(i)] for i in rng.permutation(len(FACTS))[:each - each // 2]]
    out["correctness"] = [RealPair("correctness", *fact) for fact in facts]
    while len(out["correctness"]) < each:
        a, b, off = int(rng.integers(12, 80)), int(rng.integers(12, 80)), int(rng.choice([-10, -3, 2, 10]))
        out["correctness"].append(RealPair("correctness", f"What is {a} + {b}?", f"{a} + {b} = {a + b}.",
                                           f"{a} + {b} = {a + b + off}."))
    return out
