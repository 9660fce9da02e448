"""Archives are made beside the points of jobs, told apart from them, and removed when their time is over."""

from datetime import timedelta

import pytest

from holdfast.errors import CredentialMissing, RequestInvalid, ServerUnavailable
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.points import PointSummary
from holdfast.storage.chains.chain import chain_file_names
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.storage.retention.archiving import keep_archive
from holdfast.testing.chains import CHEAP, ProtectedMachine
from tests.holdfast.storage.conftest import PIPE
from tests.holdfast.storage.retention.test_archiving import VAULT, archived, passphrases
from tests.workers.cli.place import PASSPHRASE, Place
from tests.workers.cli.retained import THREE, protect, rule


def test_what_cannot_be_a_time_is_refused_before_anything_is_started(place: Place) -> None:
    error = place.json("archive", "web", "--expires", "soon", status=RequestInvalid.exit_status)["error"]
    assert "`30d`" in error["hint"]
    error = place.json("archive", "web", "--expires", "2020-01-01", status=RequestInvalid.exit_status)["error"]
    assert "is past" in error["message"]


def test_a_repository_without_archives_has_nothing_to_show(place: Place) -> None:
    assert place.json("retention", "archives")["machines"] == []
    assert "no points" in place.run("retention", "archives").stdout


def test_a_point_of_a_job_is_no_archive_to_keep(place: Place) -> None:
    rule(place, "points = 9")
    [point] = protect(place, THREE[:1])
    words = ("retention", "keep", point.point_id[:12], "--expires", "30d")
    assert "is no archive" in place.json(*words, status=RequestInvalid.exit_status)["error"]["message"]
    latest = ("retention", "keep", "latest", "--expires", "30d")
    assert "names no archive" in place.json(*latest, status=RequestInvalid.exit_status)["error"]["message"]


def archived_in(place: Place) -> PointSummary:
    """Make an archive whose credential this host does not have."""
    store = StoreOptions(unit_size=256 << 10, passphrase=None, passphrase_cost=CHEAP)
    machine = ProtectedMachine(place.repository, 1, {"disk0": 6 * PIECE_SIZE}, store, PIPE)
    return archived(machine, credential=VAULT)


def test_with_nothing_shown_nothing_is_started(place: Place) -> None:
    assert place.json("retention", "expire")["machines"] == []
    assert "no points" in place.run("retention", "expire").stdout


def test_archives_that_cannot_be_looked_at_are_no_reason_to_remove_what_was_not_shown(place: Place) -> None:
    archived_in(place)
    document = place.json("retention", "expire", status=CredentialMissing.exit_status)
    assert (document["error"]["code"], document["machines"]) == ("credential-missing", [])
    assert "chmod 600" in document["error"]["hint"]
    result = place.run("retention", "expire")
    assert "no points" in result.stdout
    assert "is left alone" in result.stderr


def test_what_was_removed_and_had_its_grace_period_is_left_to_a_session(place: Place) -> None:
    chain = place.repository.chain_folder(archived_in(place).chain)
    files = place.repository.files
    removed = place.clock.now() - timedelta(days=8)
    ChainUpkeep(files, chain, passphrases(VAULT)).remove(chain_file_names(files, chain), removed)
    assert place.json("retention", "expire", status=ServerUnavailable.exit_status)["error"]


@pytest.mark.temporal
def test_an_archive_from_its_beginning_to_its_end(lab: Place) -> None:
    lab.json("backup", "nightly")
    done = lab.json("archive", "web", "--expires", "30d", "--encrypt-with", "night", "--verify")
    assert (done["session"]["kind"], done["session"]["outcome"]) == ("archive", "success")
    [made] = done["points"]
    after = lab.json("backup", "nightly")
    [point] = after["points"]
    assert point["kind"] == "increment"
    assert point["chain"] != made["chain"]

    listed = {one["id"]: one for one in lab.json("points", "--machine", "web")["points"]}
    assert listed[made["point_id"]]["archive"]["expires"] is not None
    assert listed[made["point_id"]]["archive"]["credential"] == "night"
    assert listed[point["point_id"]]["archive"] is None
    table = lab.run("points").stdout
    assert "archive" in table
    assert "kept until" in table
    assert "archive, kept until" in lab.run("chain", "show", made["chain"]).stdout
    assert lab.json("verify", "--all")["session"]["outcome"] == "success"
    assert lab.json("health", "scrub")["session"]["outcome"] == "success"
    words = (made["point_id"][:12], "--as", "from-archive", "--credential", "night")
    assert lab.json("restore", *words)["session"]["outcome"] == "success"

    reference = made["point_id"][:12]
    [machine] = lab.json("retention", "archives")["machines"]
    assert [one["verdict"] for one in machine["points"]] == ["kept"]
    assert "for ever" in lab.run("retention", "keep", reference, "--expires", "never").stdout
    assert "kept for ever" in lab.run("retention", "archives").stdout
    kept = lab.json("retention", "expire")
    assert kept["retained"]["kept"] == 1
    past = lab.clock.now() - timedelta(seconds=1)
    keep_archive(lab.repository, made["chain"], PASSPHRASE, past)
    gone = lab.json("retention", "expire")
    assert (gone["retained"]["deleted"], gone["session"]["outcome"]) == (1, "success")
    assert made["point_id"] not in {one["id"] for one in lab.json("points")["points"]}
    assert made["chain"] in {one["chain"] for one in lab.json("retention", "removed")["removed"]}
    lab.json("retention", "purge", made["chain"])
