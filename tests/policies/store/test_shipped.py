"""The policies that come with the package: strict where they must be, silent on everyday requests, and quick."""

from __future__ import annotations

import random
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from detectors.text import sense
from detectors.text.views import make_views
from policies import SHIPPED, Loader, Request, decide, explain, json_schema, narrate
from policies.format.model import PolicyModel
from policies.near import Near


@pytest.fixture(scope="module")
def shipped():
    return Loader(sense=sense).load(SHIPPED)


def verdict(prompt, shipped):
    return decide(Request(prompt), sense(Request(prompt)), shipped).verdict


LISTS = SHIPPED / "lists"


def entries(name):
    lines = (LISTS / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_word_list_is_large_enough_and_has_no_doubles():
    toxic = entries("toxic.en.txt")
    assert len(toxic) == len(set(toxic)) >= 150
    assert len([w for w in toxic if w.isalpha() and 3 <= len(w) <= 6]) >= 60


def test_no_benign_word_is_near_an_insult_and_every_length_has_several():
    near = Near({"toxic": entries("toxic.en.txt")})
    benign = entries("benign.en.txt")
    assert [w for w in benign if near.find(w)] == []
    assert not set(benign) & set(entries("toxic.en.txt"))
    assert all(sum(len(w) == n for w in benign) >= 4 for n in range(1, 9))


RULES = {
    "toxic": "toxic-lettering",
    "profanity": "profane-lettering",
    "sexual": "sexual-lettering",
    "hate": "hateful-lettering",
    "threat": "threatening-lettering",
    "self-harm": "self-harm-lettering",
}


@pytest.mark.parametrize("file", sorted(p.name for p in LISTS.glob("*.*.txt") if p.name.partition(".")[0] in RULES))
def test_every_entry_is_found_by_the_rule_of_its_list(file, shipped):
    for word in entries(file):
        request = Request(f'a sign that says "{word}"')
        decision = decide(request, sense(request), shipped)
        assert decision.verdict == "steer", word
        assert RULES[file.partition(".")[0]] in decision.rules, word


@pytest.mark.parametrize("name", RULES)
def test_every_entry_on_a_sign_is_steered_to_a_word_of_its_length(name, shipped):
    for word in entries(f"{name}.en.txt"):
        request = Request(f'a red star on a blue background with a sign that says "{word.upper()}"')
        decision = decide(request, sense(request), shipped)
        assert decision.verdict == "steer", word
        assert RULES[name] in decision.rules, word
        donor = next(s for s in decision.steers if s.rule == RULES[name]).donor(request)
        assert donor is not None
        assert word.upper() not in donor
        assert donor.startswith('a red star on a blue background with a sign that says "')
        if len(word) <= 8 and word.replace(" ", "").isalpha():
            assert [len(w) for w in donor.split('"')[1].split()] == [len(w) for w in word.split()]
            assert donor.split('"')[1].isupper()


@pytest.mark.parametrize(
    "prompt",
    [
        "a photo of a cat",
        'a road sign that says "Scunthorpe 5 miles"',
        'a class with a board that reads "assess the classics"',
        'a menu that says "shitake mushrooms"',
        'a poster that says "Cocktails at Hancock Bar"',
        'a sign "Massachusetts passes"',
        'a card that says "April Fools"',
        'a food truck sign reading "JERK CHICKEN"',
        'a t-shirt with the words "fatty acids"',
        'a banner "love not hate"',
        'a switch labelled "KILL SWITCH"',
        "вывеска с надписью привет",
        "ein Schild mit der Aufschrift Hallo",
        "一个牌子上写着你好",
        "a sign that says HOPE",
        'a sign that says "UP"',
        "pipes, a pipette and Philip on a pipeline",
        "a child with a red kite",
        'a sign in Greek that says "ΚΑΛΗΜΕΡΑ"',
    ],
)
def test_innocent_requests_are_allowed(prompt, shipped):
    assert verdict(prompt, shipped) == "allow"


@pytest.mark.parametrize(
    "prompt",
    [
        "a sign that says 1D10T",
        "a sign that says i.d.i.o.t",
        "a sign that says I D I O T on a wall",
        "a sign that says idi\u200bot",
        "a sign that says іdіоt",
        "a sign that says \u202etoidi\u202c",
        "a sign that says ＩＤＩＯＴ",
        "a sign that says ⓘⓓⓘⓞⓣ",
        "a sign that says idiooooot",
        "a sign that says í̶d̶i̶o̶t̶",
        "a sign that says ʇoᴉpᴉ",
        'a sign that says "ID\nIOT"',
        'two signs, "ID" and "IOT"',
        "a sign that says ID-IOT",
        "a sign that says &#105;diot",
        "a sign that says $tup1d",
        "a sign that says you are an idiot",
        "STUPID written on a wall",
        "a LOSER banner",
        "Pip on a pink background",
        "P1P",
        "p\u200bip in the rain",
        "Рір the hero",
    ],
)
def test_disguises_do_not_help(prompt, shipped):
    assert verdict(prompt, shipped) == "steer"


def test_every_exemption_spares_something(shipped):
    """A phrase in which nothing listed is found is a line too many, or its word has left the lists."""
    idle = []
    spared = {f"rendered-text/{name}" for name in ("idioms", "terms", "names", "benign")}
    sought = {name for name in shipped.words if name.startswith("rendered-text/")} - spared
    for file in sorted(LISTS.glob("innocent*.txt")):
        for phrase in entries(file.name):
            found = {
                name for view in make_views(phrase) for match in shipped.matcher.find(view) for name in match.lists
            }
            idle += [] if found & sought else [phrase]
    assert idle == []


INNOCENT = """
Fatty Acid Analysis; Skin Prick Tests; Crash Test Dummies; Flame Retarded Fabric; Vermin Control; Fools Rush In
No Dumb Questions; Please shut up the gate; Anti-bullying week: words like stupid hurt; Cock-a-doodle-doo; Coward Street
Moron, Argentina; Go to Hell, Michigan; Dick Van Dyke; Moby Dick; Coon Rapids; Cockburn & Sons; Ashit Kumar; Slutsky
Titsworth Lane; Hitchcock; Scunthorpe; Essex; Pakistan; shiitake; kaffir lime; spotted dick; jerk chicken; great tits
magna cum laude; Homo sapiens; Maine Coons; pussy willow; Super Bowl LXIX; 1,488 steps; en retard; Regen; Portfolio
San Luis; Sexual Health Clinic; Butter and Jam; Master Class; Hammer and Nails; Spiced Apples; Creeping Thyme; Cumbria
"""


@pytest.mark.parametrize("said", [part.strip() for part in INNOCENT.replace("\n", ";").split(";") if part.strip()])
def test_idioms_terms_and_names_around_a_listed_word_are_left_alone(said, shipped):
    assert verdict(f'a sign that says "{said}"', shipped) == "allow"


def test_random_strings_on_signs_raise_no_alarm(shipped):
    rng = random.Random(11)
    alarms = []
    for _ in range(600):
        word = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") for _ in range(rng.randint(1, 6)))
        if verdict(f'a red star on a blue background with a sign that says "{word}"', shipped) != "allow":
            alarms.append(word)
    assert alarms == []


def test_the_floor_refuses_and_tells_nobody_why(shipped):
    request = Request("an er0tic picture of a schoolgirl")
    decision = decide(request, sense(request), shipped)
    assert decision.verdict == "block"
    assert decision.disclosures == ()


def test_the_shipped_policies_are_decided_within_a_millisecond(shipped):
    times = []
    for prompt in (
        'a red star on a blue background with a sign that says "HELLO"',
        'a sign that says "1D10T" and pip',
    ) * 150:
        request = Request(prompt)
        signals = sense(request)
        start = time.thread_time()
        decide(request, signals, shipped)
        times.append(time.thread_time() - start)
    times.sort()
    assert times[int(len(times) * 0.99)] < 1e-3


def test_explain_is_one_json_object_that_says_what_and_why(shipped):
    said = explain(Request('a sign that says "idiot"'), shipped, sense)
    assert set(said) == {"prompt", "verdict", "rules", "actions", "reasons", "reads", "shadow", "errors", "policy"}
    assert (said["verdict"], said["rules"]) == ("steer", ["toxic-lettering"])
    assert said["reasons"][0]["word"] == "idiot"
    assert said["policy"].startswith("sha256:")
    request = Request('a sign that says "idiot"')
    lines = list(narrate(request, decide(request, sense(request), shipped), shipped))
    assert lines[0] == 'steer: a sign that says "idiot"'
    assert any("lettering that is asked for says `idiot`" in line for line in lines)


def test_what_the_comments_teach_loads(tmp_path):
    """The exception and the override that stand as comments in `rendered-text`, put where they belong."""
    text = (SHIPPED / "rendered-text.yaml").read_text("utf-8")
    taught = [line[6:] for line in text.splitlines() if line.startswith("#     ")]
    split = next(i for i, line in enumerate(taught) if line.startswith("overrides"))
    exceptions = "".join(f"    {line}\n" for line in taught[:split])
    second = "\n  - id: profane-lettering"
    edited = text.replace(second, exceptions + second, 1) + "\n" + "\n".join(taught[split:]) + "\n"
    folder = tmp_path / "policies"
    shutil.copytree(SHIPPED / "lists", folder / "lists")
    (folder / "p.yaml").write_text(edited, "utf-8")
    snapshot = Loader(sense=sense).load(folder)
    now = datetime(2026, 12, 1, tzinfo=UTC)
    for tenant, verdict, strength in (("city-museum", "allow", None), ("kids-club", "steer", 1.0), ("", "steer", None)):
        request = Request('a sign that says "idiot"', tenant=tenant, now=now)
        decision = decide(request, sense(request), snapshot)
        assert decision.verdict == verdict
        assert [s.strength for s in decision.steers] == ([strength] if verdict == "steer" else [])


def test_the_json_schema_describes_the_shipped_files():
    schema = json_schema()
    shaped = {"schema", "name", "version", "owner", "description", "requires", "freshness", "lists", "rules"}
    assert set(schema["properties"]) == shaped | {"overrides", "tests"}
    assert set(schema["properties"]) == {f.alias or n for n, f in PolicyModel.model_fields.items()}


def test_every_shipped_file_is_packaged():
    assert {p.suffix for p in Path(SHIPPED).rglob("*") if p.is_file()} == {".yaml", ".txt"}
