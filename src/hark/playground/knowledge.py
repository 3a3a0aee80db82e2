"""What is true in the built-in world: a few hundred small facts and every sentence that states one.

Sentences are enumerated for true *and* false values, so that reading a statement back is one
dictionary look-up and a false statement is recognised as such.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping
from functools import cache

from hark.playground.relation import Fact, Relation

_COUNTRIES = """
France Paris Europe|Spain Madrid Europe|Italy Rome Europe|Germany Berlin Europe
Austria Vienna Europe|Greece Athens Europe|Norway Oslo Europe|Poland Warsaw Europe
Ireland Dublin Europe|Portugal Lisbon Europe|Finland Helsinki Europe|Egypt Cairo Africa
Kenya Nairobi Africa|Ghana Accra Africa|Morocco Rabat Africa|Senegal Dakar Africa
Japan Tokyo Asia|China Beijing Asia|Thailand Bangkok Asia|Vietnam Hanoi Asia
Peru Lima America|Chile Santiago America|Canada Ottawa America|Cuba Havana America
"""
_ANIMALS = """
fox forest meat four|wolf forest meat four|deer forest grass four|owl forest meat two
camel desert grass four|lizard desert insects four|lion grassland meat four
zebra grassland grass four|giraffe grassland leaves four|parrot jungle fruit two
tiger jungle meat four|shark sea fish no|whale sea fish no|otter river fish four
frog pond insects four|duck pond seeds two|cow farm grass four|horse farm grass four
hen farm seeds two|goat mountains grass four|eagle mountains meat two|spider garden insects eight
ant garden seeds six|snail garden leaves no
"""
_FOODS = """
banana yellow fruit|lemon yellow fruit|cherry red fruit|strawberry red fruit|plum purple fruit
lime green fruit|pear green fruit|carrot orange vegetable|pumpkin orange vegetable
pea green vegetable|cucumber green vegetable|potato brown vegetable|onion white vegetable
radish red vegetable
"""
_JOBS = """
baker oven bakery|teacher book school|doctor mask hospital|farmer tractor field
carpenter hammer workshop|painter brush studio|gardener spade garden|cook pan kitchen
fisher net harbour|tailor needle shop|barber comb salon|pilot map airport|miner lamp mine
writer pen library|drummer drum theatre|clerk computer office|sailor rope ship
waiter tray restaurant
"""
_OPPOSITES = """
hot cold|big small|fast slow|old young|happy sad|light dark|wet dry|full empty|hard soft
high low|loud quiet|clean dirty|open closed|strong weak
"""
_EXAMPLES = {
    "hot": "Fire is hot.",
    "cold": "Ice is cold.",
    "big": "A whale is big.",
    "small": "An ant is small.",
    "fast": "A horse is fast.",
    "slow": "A snail is slow.",
    "old": "A castle is old.",
    "young": "A baby is young.",
    "happy": "A friend makes you happy.",
    "sad": "A lost toy makes you sad.",
    "light": "A feather is light.",
    "dark": "The night is dark.",
    "wet": "Rain is wet.",
    "dry": "Sand is dry.",
    "full": "A packed bag is full.",
    "empty": "A new box is empty.",
    "hard": "A stone is hard.",
    "soft": "A pillow is soft.",
    "high": "A tower is high.",
    "low": "A cellar is low.",
    "loud": "Thunder is loud.",
    "quiet": "A library is quiet.",
    "clean": "A washed plate is clean.",
    "dirty": "A muddy boot is dirty.",
    "open": "A shop by day is open.",
    "closed": "A locked door is closed.",
    "strong": "A bear is strong.",
    "weak": "A thin thread is weak.",
}
_PLURALS = """
mouse mice|child children|foot feet|tooth teeth|goose geese|man men|woman women|leaf leaves
knife knives|wolf wolves|box boxes|city cities|baby babies|story stories|bus buses|dish dishes
potato potatoes|key keys|lamp lamps|bird birds
"""
_RHYMES = """
cat hat bat|tree bee sea|light night kite|house mouse blouse|moon spoon noon|cake lake snake
ball wall hall|king ring wing|dog frog log|star car jar|book hook brook|boat goat coat
"""
_SPELLED = (
    "apple bread chair door eagle flower garden hammer island jacket kitchen lamp mountain night"
    " orange paper queen river summer table umbrella village window yellow"
)


def _rows(table: str) -> list[list[str]]:
    return [row.split() for line in table.strip().splitlines() for row in line.split("|")]


def _column(table: str, index: int) -> dict[str, tuple[str, ...]]:
    column: dict[str, tuple[str, ...]] = {row[0]: (row[index],) for row in _rows(table)}
    return column


def _opposites() -> dict[str, tuple[str, ...]]:
    truth: dict[str, tuple[str, ...]] = {}
    for first, second in _rows(_OPPOSITES):
        truth |= {first: (second,), second: (first,)}
    return truth


def _rhymes() -> dict[str, tuple[str, ...]]:
    groups = _rows(_RHYMES)
    return {word: tuple(w for w in group if w != word) for group in groups for word in group}


def _orders(*, bigger: bool) -> dict[str, tuple[str, ...]]:
    pairs = itertools.combinations(range(1, 19), 2)
    return {f"{low} or {high}": (str(high if bigger else low),) for low, high in pairs}


def _sums() -> dict[str, tuple[str, ...]]:
    digits = range(1, 10)
    return {f"{a} plus {b}": (str(a + b),) for a in digits for b in digits}


def _relation(
    family: str,
    name: str,
    truth: Mapping[str, tuple[str, ...]],
    statements: str,
    questions: str = "",
) -> Relation:
    return Relation(
        name=name,
        family=family,
        truth=truth,
        statements=tuple(statements.split("|")),
        questions=tuple(questions.split("|")) if questions else (),
    )


_ALL = (
    _relation(
        "country",
        "capital",
        _column(_COUNTRIES, 1),
        "The capital of {s} is {v}.|{v} is the capital of {s}.|The main city of {s} is {v}.",
        "What is the capital of {s}?|Tell me the capital of {s}.|"
        "Which city is the capital of {s}?|I want to know the capital of {s}.",
    ),
    _relation(
        "country",
        "continent",
        _column(_COUNTRIES, 2),
        "{s} is a country in {v}.|{s} lies in {v}.|You can find {s} in {v}.",
        "Where is {s}?|Tell me where {s} lies.|In which part of the world is {s}?|"
        "Which continent is {s} in?",
    ),
    _relation(
        "animal",
        "home",
        _column(_ANIMALS, 1),
        "{a_s} lives in the {v}.|The home of {a_s} is the {v}.|You can find {a_s} in the {v}.",
        "Where does {a_s} live?|What is the home of {a_s}?|Tell me where {a_s} lives.|"
        "Where can I find {a_s}?",
    ),
    _relation(
        "animal",
        "diet",
        _column(_ANIMALS, 2),
        "{a_s} eats {v}.|{a_s} likes to eat {v}.|The food of {a_s} is {v}.",
        "What does {a_s} eat?|Tell me what {a_s} eats.|What is the food of {a_s}?|"
        "What does {a_s} like to eat?",
    ),
    _relation(
        "animal",
        "legs",
        _column(_ANIMALS, 3),
        "{a_s} has {v} legs.|There are {v} legs on {a_s}.",
        "How many legs does {a_s} have?|Tell me how many legs {a_s} has.|Count the legs of {a_s}.",
    ),
    _relation(
        "food",
        "colour",
        _column(_FOODS, 1),
        "{a_s} is {v}.|The colour of {a_s} is {v}.|Most of the time {a_s} is {v}.",
        "What colour is {a_s}?|Tell me the colour of {a_s}.|Which colour does {a_s} have?",
    ),
    _relation(
        "food",
        "kind",
        _column(_FOODS, 2),
        "{a_s} is a {v}.|We call {a_s} a {v}.",
        "Is {a_s} a fruit or a vegetable?|What kind of food is {a_s}?|"
        "Tell me if {a_s} is a fruit or a vegetable.",
    ),
    _relation(
        "job",
        "tool",
        _column(_JOBS, 1),
        "{a_s} works with {a_v}.|{a_s} uses {a_v}.|The tool of {a_s} is {a_v}.",
        "What does {a_s} use?|Which tool does {a_s} need?|Tell me the tool of {a_s}.|"
        "What does {a_s} work with?",
    ),
    _relation(
        "job",
        "workplace",
        _column(_JOBS, 2),
        "{a_s} works in {a_v}.|You can meet {a_s} in {a_v}.",
        "Where does {a_s} work?|Tell me where {a_s} works.|Where can I meet {a_s}?",
    ),
    _relation(
        "number",
        "sum",
        _sums(),
        "{s} is {v}.|{s} makes {v}.|The answer to {s} is {v}.",
        "What is {s}?|How much is {s}?|Please work out {s}.|Tell me what {s} makes.",
    ),
    _relation(
        "number",
        "bigger",
        _orders(bigger=True),
        "{v} is bigger than {o}.|{v} is more than {o}.",
        "Which is bigger, {x} or {y}?|Which number is more, {x} or {y}?|"
        "Tell me the bigger number, {x} or {y}.",
    ),
    _relation(
        "number",
        "smaller",
        _orders(bigger=False),
        "{v} is smaller than {o}.|{v} is less than {o}.",
        "Which is smaller, {x} or {y}?|Which number is less, {x} or {y}?|"
        "Tell me the smaller number, {x} or {y}.",
    ),
    _relation(
        "word",
        "opposite",
        _opposites(),
        "The opposite of {s} is {v}.|{v} is the opposite of {s}.",
        "What is the opposite of {s}?|Give me the opposite of {s}.|"
        "Which word is the opposite of {s}?",
    ),
    _relation("word", "example", {word: (text[:-1],) for word, text in _EXAMPLES.items()}, "{v}."),
    _relation(
        "word",
        "plural",
        _column(_PLURALS, 1),
        "The plural of {s} is {v}.|{v} is the plural of {s}.",
        "What is the plural of {s}?|Give me the plural of {s}.|How do I write more than one {s}?",
    ),
    _relation("word", "count", _column(_PLURALS, 1), "One {s}, two {v}.|Say one {s} but two {v}."),
    _relation(
        "word",
        "letter",
        {word: (word[0],) for word in _SPELLED.split()},
        "The first letter of {s} is {v}.|The word {s} begins with {v}.",
        "What is the first letter of {s}?|Which letter does {s} begin with?|"
        "Tell me the first letter of {s}.",
    ),
    _relation(
        "word",
        "ending",
        {word: (word[-1],) for word in _SPELLED.split()},
        "The last letter of {s} is {v}.|The word {s} ends with {v}.",
    ),
    _relation(
        "word",
        "rhyme",
        _rhymes(),
        "{v} rhymes with {s}.|A word that rhymes with {s} is {v}.|{v} also rhymes with {s}.",
        "What rhymes with {s}?|Give me a rhyme for {s}.|Which word rhymes with {s}?",
    ),
)
RELATIONS: dict[str, Relation] = {relation.name: relation for relation in _ALL}
ASKED: dict[str, tuple[Relation, ...]] = {
    family: tuple(r for r in _ALL if r.family == family and r.questions)
    for family in dict.fromkeys(r.family for r in _ALL)
}
"""Fact family to the relations people ask about."""


def asked_subjects(relation: Relation) -> tuple[str, ...]:
    """The subjects people ask about: all of them, except that numbers are compared up to 9."""
    if relation.name in ("bigger", "smaller"):
        return tuple(s for s in relation.truth if all(len(n) == 1 for n in s.split(" or ")))
    return tuple(relation.truth)


@cache
def related_facts(relation: str, subject: str) -> frozenset[tuple[str, str]]:
    """The (relation, subject) of facts that are a useful addition to this one."""
    family = RELATIONS[relation].family
    if family in ("country", "animal", "food", "job"):
        return frozenset((r.name, subject) for r in ASKED[family] if r.name != relation)
    if relation == "sum":
        a, b = subject.split(" plus ")
        total = str(int(a) + int(b))
        swapped = {("sum", f"{b} plus {a}")} if a != b else set()
        return frozenset(
            swapped | {(r, f"{n} or {total}") for n in (a, b) for r in ("bigger", "smaller")}
        )
    if relation == "opposite":
        return frozenset(
            ("example", word) for word in (subject, *RELATIONS[relation].truth[subject])
        )
    partner = {
        "bigger": "smaller",
        "smaller": "bigger",
        "plural": "count",
        "letter": "ending",
        "rhyme": "rhyme",
    }[relation]
    return frozenset({(partner, subject)})


def true_statement(relation: str, subject: str, rng: random.Random) -> str:
    """One of the sentences that state a true fact."""
    chosen = RELATIONS[relation]
    value = rng.choice(chosen.truth[subject])
    return chosen.state(rng.choice(chosen.statements), subject, value)


def false_statement(relation: str, subject: str, rng: random.Random) -> str:
    """A sentence of the same form that is not true."""
    chosen = RELATIONS[relation]
    if relation == "example":
        return false_statement("opposite", subject, rng)
    value = chosen.wrong_value(subject, rng)
    return chosen.state(rng.choice(chosen.statements), subject, value)


def _statements(relation: Relation) -> Iterable[tuple[str, Fact]]:
    for subject, true_values in relation.truth.items():
        claimed = true_values if relation.name == "example" else relation.candidates(subject)
        for value, template in itertools.product(claimed, relation.statements):
            fact = Fact(relation.name, subject, value, value in true_values)
            yield relation.state(template, subject, value).lower(), fact


@cache
def statement_index() -> dict[str, Fact]:
    """Every sentence of the world in lower case, with the fact that it states."""
    return {sentence: fact for relation in _ALL for sentence, fact in _statements(relation)}
