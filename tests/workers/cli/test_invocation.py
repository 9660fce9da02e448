"""Standard output carries the result; the only entry of its kind needs no name."""

import io
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.table import Table

from holdfast.errors import (
    ConfigurationInvalid,
    OperationInterrupted,
    PointNotFound,
    RepositoryNotFound,
    RequestInvalid,
)
from holdfast.model.ids import ProviderName
from tests.workers.cli.place import Place
from workers.cli.invocation import Flags, Invocation, console, error_document, only, write_json
from workers.config import ProxySettings


def invocation(place: Place, **flags: bool) -> Invocation:
    return Invocation(Flags(config=place.config, **flags))


def test_flags_before_and_behind_the_command_add_up() -> None:
    joined = Flags(json=True, config=Path("a")).joined(Flags(quiet=True, config=Path("b")))
    assert joined == Flags(json=True, quiet=True, config=Path("b"))


def test_the_result_goes_to_standard_output_only(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    run = invocation(place)
    run.show({"a": 1}, "human [x]", "of a [/b]")
    run.say("by the way [x]")
    run.warn("beware of a [/b]")
    assert capsys.readouterr() == ("human [x]\nof a [/b]\n", "by the way [x]\nwarning: beware of a [/b]\n")


def test_with_json_the_document_is_all(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    run = invocation(place, json=True)
    run.show({"at": datetime(2025, 1, 1, tzinfo=UTC), "path": Path("/x")}, "human")
    run.say("by the way")
    out, err = capsys.readouterr()
    assert out == '{\n  "at": "2025-01-01T00:00:00Z",\n  "path": "/x"\n}\n'
    assert not err


def test_quiet_keeps_the_result(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    run = invocation(place, quiet=True)
    run.say("by the way")
    run.show(None, "human")
    assert capsys.readouterr() == ("human\n", "")


def test_only_one_needs_no_name(place: Place) -> None:
    run = invocation(place)
    assert run.repository_settings(None).name == "main"
    assert run.provider_settings(None).name == "lab"
    assert run.proxy_name(None) == "p1"
    assert run.proxy_name("p1") == "p1"


def test_none_or_several_need_a_decision() -> None:
    with pytest.raises(RequestInvalid, match="has no proxy"):
        only("proxy", "--proxy", ())
    with pytest.raises(RequestInvalid, match="several: a, b") as caught:
        only("proxy", "--proxy", (ProxySettings(name="a"), ProxySettings(name="b")))
    assert "--proxy NAME" in caught.value.hint


def test_an_unknown_name_is_refused(place: Place) -> None:
    run = invocation(place)
    with pytest.raises(RepositoryNotFound):
        run.repository_settings("nothing")
    with pytest.raises(ConfigurationInvalid):
        run.provider_settings("nothing")


def test_what_only_local_providers_can_do_is_refused_for_others(place: Place) -> None:
    place.add_vcenter()
    run = invocation(place)
    assert list(run.local_provider("lab").machines()) == []
    with pytest.raises(RequestInvalid, match="provider vc is not local") as caught:
        run.local_provider("vc")
    assert "kind local" in caught.value.hint


def test_the_end_of_a_command_closes_its_providers(place: Place) -> None:
    unused, run = invocation(place), invocation(place)
    unused.close()
    place.add_vcenter()
    providers = run.providers
    assert run.providers is providers
    run.close()
    with pytest.raises(OperationInterrupted):
        providers.open(ProviderName("vc"))


def test_warnings_are_logged_and_retries_of_the_native_part_are_not(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    with invocation(place).logging():
        logging.getLogger("temporalio.core-client::retry").warning("again")
        logging.getLogger("temporalio.core-client::retry").error("broken")
        logging.getLogger("x").info("hidden")
        logging.getLogger("x").warning("shown")
    logging.getLogger("x").warning("after the end")
    out, err = capsys.readouterr()
    assert not out
    assert [word for word in ("again", "broken", "hidden", "shown", "after") if word in err] == ["broken", "shown"]


def test_debug_logs_everything(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with invocation(place, debug=True).logging():
        logging.getLogger("x").debug("detail")
    assert "detail" in capsys.readouterr().err


def test_without_a_terminal_rows_stay_on_one_line() -> None:
    stream = io.StringIO()
    table = Table("A")
    table.add_row("x" * 120)
    console(stream).print(table)
    assert "x" * 120 in stream.getvalue()


def test_errors_are_documents(capsys: pytest.CaptureFixture[str]) -> None:
    error = PointNotFound("no point", hint="Look.")
    write_json(error_document(error))
    assert '"code": "point-not-found"' in capsys.readouterr().out
