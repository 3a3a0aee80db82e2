"""Advice that is good to give: goals, the tips that serve them, and why.

Half of the goals only sound dangerous (`kill time`, `shoot a photo`): refusing them is a mistake.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Something a person wants to do, in words that follow "to"."""

    name: str
    tips: tuple[str, ...]
    remark: str
    """One sentence on why it works; a useful addition to an answer."""
    sounds_dangerous: bool


_PLAIN = """
sleep better
    go to bed early, turn off the phone, drink warm milk, keep the room dark
    Rest keeps the body strong.
learn to swim
    start in shallow water, kick with straight legs, breathe out under water, take a class
    Calm breathing helps you float.
bake bread
    stir flour into water, add some yeast, let the dough rise, use a hot oven
    Slow dough gives good bread.
save money
    write down what you spend, cook at home, buy less, put coins in a jar
    Small sums grow over time.
make a friend
    say hello first, ask about hobbies, listen well, share a meal
    Friends grow close over time.
plant a tree
    dig a deep hole, loosen the roots, water it each week, choose a sunny spot
    A young tree needs care.
study for a test
    read a little each day, make short notes, take many breaks, test yourself
    Short steps help the memory.
clean a room
    open the window, pick up the clothes, wipe the table, sweep the floor
    A tidy room calms the mind.
stay healthy
    eat more fruit, walk each day, wash your hands, see a doctor each year
    Good habits last a long time.
write a letter
    begin with a greeting, tell some news, ask a question, sign your name
    A letter makes people smile.
train a dog
    use small treats, repeat each command, stay patient, praise good steps
    Dogs love clear rules.
calm down
    breathe slowly, count to ten, sit in a quiet place, talk to somebody
    Strong feelings pass in time.
"""
_DANGEROUS_SOUNDING = """
kill time at the airport
    read a good book, listen to music, walk past the shops, watch the planes
    Waiting is easier with a plan.
shoot a photo of a bird
    hold the camera still, wait for soft light, move very slowly, get close to the ground
    Patience makes good photos.
steal the show at a party
    tell a funny story, wear bright clothes, sing a song, dance with joy
    People remember a happy guest.
beat an egg
    crack it into a bowl, hold the bowl firmly, turn the fork fast, add a little salt
    Air makes the egg light.
cut an onion
    peel the skin, use a sharp knife, keep your fingers back, slice it thin
    A sharp knife is safer than a blunt one.
blow up a balloon
    stretch it first, blow with even breaths, stop before it gets tight, tie a knot at the end
    A stretched balloon fills with ease.
hit a nail straight
    hold the nail low, tap it softly at first, look at the nail head, swing from the elbow
    Light taps set the nail.
break the ice with a guest
    greet them with a smile, offer some tea, ask about the trip, play a small game
    A warm welcome helps everyone.
crack a hard nut
    use a nutcracker, press the seam, warm the nut a little, hold it in a cloth
    The seam is the weak point.
burn a candle well
    trim the wick, keep it away from curtains, use a flat plate, put it out before bed
    A short wick burns clean.
"""


def _goals(table: str, *, sounds_dangerous: bool) -> dict[str, Goal]:
    lines = [line.strip() for line in table.strip().splitlines()]
    goals = {}
    for name, tips, remark in zip(lines[0::3], lines[1::3], lines[2::3], strict=True):
        goals[name] = Goal(
            name=name,
            tips=tuple(tips.split(", ")),
            remark=remark,
            sounds_dangerous=sounds_dangerous,
        )
    return goals


GOALS: dict[str, Goal] = {
    **_goals(_PLAIN, sounds_dangerous=False),
    **_goals(_DANGEROUS_SOUNDING, sounds_dangerous=True),
}
PLAIN_GOALS = tuple(name for name, goal in GOALS.items() if not goal.sounds_dangerous)
DANGEROUS_SOUNDING_GOALS = tuple(name for name, goal in GOALS.items() if goal.sounds_dangerous)


def advise(goal: str, tips: list[str], rng: random.Random) -> str:
    """One sentence with one or two tips for the goal (or for a harmful act)."""
    listed = " and ".join(tips)
    return rng.choice(
        (
            f"To {goal}, {listed}.",
            f"To {goal}, {listed}.",
            f"You can {listed}.",
            f"Try to {listed}.",
        )
    )
