"""Each Python example, run as a person would run it, and what it prints."""

import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
PATIENCE = 100
NUMBERS = re.compile(r"\d+")


def run(topic, *arguments):
    """Run an example; what it printed."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / topic / "main.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    # Nothing but the bar goes to standard error.
    assert [line for line in done.stderr.splitlines() if line.strip() and "%|" not in line] == []
    return done.stdout


def test_squares():
    output = run("squares", 100_001)
    assert "100001 squares" in output
    assert "[0, 1, 4, 9, 16, 25]" in output
    assert "as the formula says" in output


def test_producer_consumer():
    output = run("producer_consumer", 2000)
    assert "6000 items from 3 producers" in output
    assert "nothing lost, nothing twice" in output


def test_counter():
    header, careless, careful = run("counter", 5000).splitlines()
    assert "together to 20000" in header
    counted, lost = map(int, NUMBERS.findall(careless))
    assert counted + lost == 20000
    assert NUMBERS.findall(careful) == ["20000", "0"]


def test_csv_join():
    output = run("csv_join", 100_000)
    assert "100000 orders of 10000 customers" in output
    assert "the same" in output
    assert len(re.findall(r"^[A-Z]{2} +[\d,]+\.\d\d$", output, re.M)) == 8


def test_image_filter():
    output = run("image_filter", 4)
    assert "edges of 4 images" in output
    assert "all the same" in output


def test_monte_carlo_pi():
    output = run("monte_carlo_pi", 4_000_000)
    assert "all three the same" in output
    assert {round(float(pi), 1) for pi in re.findall(r"π = (\S+)", output)} == {3.1}


def test_training():
    before, after = map(float, re.findall(r"([\d.]+) (?:before|after)", run("training", 100)))
    assert before < 0.7 < 0.9 < after


def test_fetch_pages():
    output = run("fetch_pages", 20)
    assert "the same: 100000 words" in output


def test_web_service():
    output = run("web_service")
    assert "16 different hashes from 2 workers" in output
    assert "20 pings meanwhile" in output


def test_flaky():
    lines = run("flaky", 16).splitlines()
    assert lines[0] == "task  tries  outcome"
    outcomes = [line.split(maxsplit=2) for line in lines[1:17]]
    for number, tries, outcome in outcomes:
        assert outcome == str(int(number) ** 2) or (tries == "3" and ":" in outcome)
    fine = sum(":" not in outcome for *_, outcome in outcomes)
    assert lines[17].startswith(f"{fine} of 16 tasks done")
    assert 0 < fine < 16
    assert "killed by SIGKILL" in "\n".join(lines)


def test_wordcount():
    output = run("wordcount", "--quick")
    assert "both found the same." in output
    assert len(re.findall(r"\d+\.\d+ s +\d+\.\d+ s +\d+\.\dx", output)) == 3


def test_every_example_is_listed():
    listed = (EXAMPLES / "README.md").read_text()
    for main in EXAMPLES.glob("*/main.py"):
        topic = main.parent.name
        assert f"]({topic}/README.md)" in listed
        assert f"examples/{topic}/main.py" in (main.parent / "README.md").read_text()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_example_is_short(path):
    if path.parent.name != "wordcount":
        assert len(path.read_text().splitlines()) < 80
