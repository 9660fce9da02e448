"""Devices that are no disks are cut out of answers, and nothing else."""

import gzip
import http.client
import io
from typing import Any

import pytest

from holdfast.providers.vsphere.lean_answers import LeanConnection, LeanResponse, lean


def device(kind: str, inside: str = "<key>1</key>") -> bytes:
    return f'<VirtualDevice xsi:type="{kind}">{inside}</VirtualDevice>'.encode()


KEPT = ["VirtualDisk", "ParaVirtualSCSIController", "VirtualLsiLogicController", "VirtualLsiLogicSASController",
        "VirtualBusLogicController"]  # fmt: skip
CUT = ["VirtualKeyboard", "VirtualE1000", "VirtualIDEController", "VirtualDiskette", "VirtualMachineVideoCard"]


@pytest.mark.parametrize("kind", KEPT)
def test_disks_and_the_controllers_that_machines_share_are_kept(kind: str) -> None:
    assert lean(b"<a>" + device(kind) + b"</a>") == b"<a>" + device(kind) + b"</a>"


@pytest.mark.parametrize("kind", CUT)
def test_other_devices_are_cut_out(kind: str) -> None:
    disk = device("VirtualDisk", "<label>Hard\ndisk</label>")
    assert lean(device(kind, "a\nb") + disk + device(kind)) == disk


def test_text_that_tells_of_devices_stays() -> None:
    text = b"<val>&lt;VirtualDevice xsi:type=&quot;VirtualKeyboard&quot;&gt;&lt;/VirtualDevice&gt;</val>"
    assert lean(text) == text


@pytest.mark.parametrize("is_compressed", [False, True])
def test_an_answer_is_read_lean_in_any_portions(is_compressed: bool) -> None:
    body = b"<a>" + device("VirtualKeyboard") + device("VirtualDisk") + b"</a>"
    response = answer(gzip.compress(body) if is_compressed else body, is_compressed)
    assert response.getheader("Content-Encoding") is None
    parts = iter(lambda: response.read(7), b"")
    assert b"".join(parts) == b"<a>" + device("VirtualDisk") + b"</a>"
    assert response.isclosed(), "the connection is free"
    assert LeanConnection.response_class is LeanResponse


def answer(body: bytes, is_compressed: bool) -> http.client.HTTPResponse:
    coding = b"Content-Encoding: gzip\r\n" if is_compressed else b""
    head = b"HTTP/1.1 200 OK\r\n" + coding + b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n"

    class Wire:
        def makefile(self, _mode: str) -> Any:
            return io.BytesIO(head + body)

    response = LeanResponse(Wire())  # type: ignore[arg-type] # only this is asked of a socket
    response.begin()
    return response
