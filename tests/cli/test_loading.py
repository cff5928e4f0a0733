"""From `module:app` to the App: every mistake is told in one sentence, without a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import shop, streamstate


def refused(*arguments: str, code: int = 1) -> str:
    """What a refused command said; nothing of it on standard output."""
    result = streamstate(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    return result.stderr


@pytest.mark.parametrize("command", ["run", "check", "subscriptions"])
def test_a_module_that_is_not_there_is_named_with_the_directory_that_was_looked_in(project: Path, command: str) -> None:
    said = refused(command, "shpo:app")
    assert said.startswith(f"Error: there is no module 'shpo' in {project}")
    assert "run this in the directory that holds it" in said


def test_a_submodule_of_a_plain_module_is_told_as_such(project: Path) -> None:
    shop(project)
    assert "there is no module 'shop.app' in" in refused("check", "shop.app:app")
    assert "shop is not a package" in refused("check", "shop.app:app")


def test_a_module_of_a_package_is_found(project: Path) -> None:
    (project / "company").mkdir()
    shop(project / "company")
    assert streamstate("check", "company.shop:app", "--offline").exit_code == 0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import json\nx = 1 / 0\n", "ZeroDivisionError: division by zero — at shop.py:2"),
        ("import nothing_of_that_name\n", "No module named 'nothing_of_that_name' — at shop.py:1"),
        ("from json import nothing\n", "— at shop.py:1"),
        ("import json\n\njson.loads('{')\n", "— at shop.py:3"),
        ("a = 1\ndef b(:\n", "SyntaxError: invalid syntax — at shop.py:2"),
        ("raise SystemExit('no main guard')\n", "SystemExit: no main guard — at shop.py:1"),
        ("def fail():\n    raise ValueError\n\nfail()\n", "ValueError — at shop.py:2"),
    ],
)
def test_an_error_while_importing_is_the_users_own_with_its_file_and_line(
    project: Path, source: str, said: str
) -> None:
    (project / "shop.py").write_text(source, encoding="utf-8")
    error = refused("check", "shop:app")
    assert error.startswith("Error: importing shop failed: ")
    assert said in error


def test_a_wrong_definition_names_its_place_once(project: Path) -> None:
    (project / "shop.py").write_text(
        "from streamstate import App, Context, Service\n"
        "greeter = Service('Greeter')\n"
        "@greeter.handler\n"
        "def greet(ctx: Context, name: str) -> str:\n"
        "    return name\n",
        encoding="utf-8",
    )
    said = refused("run", "shop:app")
    assert "shop.py:3" in said
    assert said.count("shop.py:") == 1


def test_an_attribute_that_is_not_there_is_told_with_the_apps_that_are(project: Path) -> None:
    shop(project)
    assert refused("run", "shop:ap") == "Error: shop has no attribute 'ap'; the Apps in shop are: shop:app\n"


def test_a_module_without_an_app_is_told_how_to_make_one(project: Path) -> None:
    (project / "shop.py").write_text("application = 1\n", encoding="utf-8")
    said = refused("run", "shop:aplication")
    assert "did you mean 'application'?" in said
    assert "shop has no App: make one with app = App(" in said


def test_an_attribute_that_is_not_an_app_is_told_with_its_type(project: Path) -> None:
    shop(project)
    said = refused("run", "shop:drivers")
    assert said == "Error: shop:drivers is of type VirtualObject, and not an App; the Apps in shop are: shop:app\n"


@pytest.mark.parametrize("target", ["shop", "shop:", ":app", "sh op:app", "shop:app:x"])
def test_what_is_not_of_the_form_module_app_is_wrong_usage(project: Path, target: str) -> None:
    said = refused("run", target, code=2)
    assert f"{target!r} is not of the form module:app, for example shop:app" in said


@pytest.mark.parametrize(
    ("target", "right"), [("shop.py:app", "shop:app"), ("./company/shop.py:api", "company.shop:api")]
)
def test_the_name_of_a_file_is_answered_with_that_of_the_module(project: Path, target: str, right: str) -> None:
    assert f"names a file; name the module: {right}" in refused("check", target, code=2)
