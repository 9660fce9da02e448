"""What travels between clients, server and workers, and how.

Values are encoded by msgspec as ``json/plain``, which Temporal's UI and command line can show.
Decoding ignores unknown fields, so that a history written by a newer or an older version loads.
With keys configured a codec compresses and encrypts every payload, messages and stack traces of
failures included; search attributes, ids, queue names and error codes stay readable.

A sealed payload is ``salt (32 bytes) + ciphertext + tag (16 bytes)`` with the metadata
``encoding``, ``key-id`` and ``compression``, all three bound to the ciphertext as additional data.
Key and nonce of each payload are derived from the configured key and the salt, so the bound on
random nonces under one AES-GCM key does not apply; the reasoning is in
docs/decisions/0003-temporal-payloads.md.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import (
    BinaryNullPayloadConverter,
    BinaryPlainPayloadConverter,
    BinaryProtoPayloadConverter,
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverter,
    EncodingPayloadConverter,
    JSONProtoPayloadConverter,
    PayloadCodec,
    PayloadConverter,
)
from typing_extensions import override

from activities.boundary import application_error, reason_of
from holdfast.decoding import decoder_of
from holdfast.errors import ConfigurationInvalid, CredentialMissing, DataDamaged, HoldfastError

KEY_SIZE: Final = 32
"""Bytes of a payload key."""
SEALED_ENCODING: Final = "binary/holdfast-sealed-v1"
"""Encoding name of a sealed payload; another layout gets another name."""

_SALT_SIZE: Final = 32
_NONCE_SIZE: Final = 12
_COMPRESS_FROM: Final = 512
"""Bytes from which compression is tried; below, a frame header costs more than it saves."""
_COMPRESSION_LEVEL: Final = 3
_PAYLOAD_SIZE_MAX: Final = 64 * 1024 * 1024
"""Largest decompressed payload accepted; the server refuses more than 2 MiB compressed."""
_KEYS_HINT: Final = "List every key that running or kept histories were written with; the first one encrypts."
_DAMAGED_HINT: Final = "The payload was altered, or another key goes by the same name; compare the key files."


class StructJson(EncodingPayloadConverter):
    """JSON by msgspec: structs, enums, dates, sets and unions as their type hints say."""

    def __init__(self) -> None:
        # Sorted keys and sets: the same value gives the same bytes when a workflow is replayed.
        self._encoder = msgspec.json.Encoder(order="deterministic")

    @property
    @override
    def encoding(self) -> str:
        return "json/plain"

    @override
    def to_payload(self, value: Any) -> Payload | None:
        return Payload(metadata={"encoding": self.encoding.encode()}, data=self._encoder.encode(value))

    @override
    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        wanted: Any = Any if type_hint in {None, object} else type_hint
        try:
            return decoder_of(wanted).decode(payload.data)
        except msgspec.DecodeError as error:
            message = f"payload is not a {getattr(wanted, '__name__', wanted)}: {error}"
            raise RuntimeError(message) from error


class HoldfastPayloadConverter(CompositePayloadConverter):
    """The SDK's converters with `StructJson` in place of its JSON."""

    def __init__(self) -> None:
        super().__init__(
            BinaryNullPayloadConverter(),
            BinaryPlainPayloadConverter(),
            JSONProtoPayloadConverter(),
            BinaryProtoPayloadConverter(),
            StructJson(),
        )


class HoldfastFailureConverter(DefaultFailureConverter):
    """Keeps code, hint and retryability of a `HoldfastError`, wherever in a chain it stands."""

    @override
    def to_failure(self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure) -> None:
        if isinstance(exception, HoldfastError):
            translated = application_error(exception).with_traceback(exception.__traceback__)
            translated.__cause__ = reason_of(exception)
            exception = translated
        super().to_failure(exception, payload_converter, failure)


class SealedFailureConverter(HoldfastFailureConverter):
    """The same, with message and stack trace moved to where the codec encrypts them."""

    def __init__(self) -> None:
        super().__init__(encode_common_attributes=True)


class Keyring:
    """Payload keys by id. The first encrypts, every one decrypts."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        for key_id, key in keys.items():
            if not key_id or not key_id.isascii() or not key_id.isprintable():
                message = f"payload key id {key_id!r} is not printable ASCII"
                raise ConfigurationInvalid(message)
            if len(key) != KEY_SIZE:
                message = f"payload key {key_id} has {len(key)} bytes instead of {KEY_SIZE}"
                raise ConfigurationInvalid(message)
        if not keys:
            message = "a keyring without keys"
            raise ConfigurationInvalid(message)
        self._keys = dict(keys)
        self.active_id: Final = next(iter(self._keys))

    def key(self, key_id: str) -> bytes:
        """Return the key of this id. Raises CredentialMissing."""
        try:
            return self._keys[key_id]
        except KeyError:
            message = f"payload key {key_id} is not configured, only {', '.join(self._keys)}"
            raise CredentialMissing(message, hint=_KEYS_HINT) from None


class SealingCodec(PayloadCodec):
    """Compresses and encrypts payloads.

    Payloads in clear pass on decoding, so that keys can be introduced while sessions run.
    """

    def __init__(self, keyring: Keyring, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._keyring = keyring
        self._random = random

    @override
    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._seal(payload) for payload in payloads]

    @override
    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._open(payload) if _is_sealed(payload) else payload for payload in payloads]

    def _seal(self, payload: Payload) -> Payload:
        compression, content = _compressed(payload.SerializeToString())
        key_id = self._keyring.active_id
        salt = self._random(_SALT_SIZE)
        key, nonce = _derived(self._keyring.key(key_id), salt)
        sealed = AESGCM(key).encrypt(nonce, content, _bound_data(key_id, compression))
        return Payload(
            metadata={
                "encoding": SEALED_ENCODING.encode(),
                "key-id": key_id.encode(),
                "compression": compression.encode(),
            },
            data=salt + sealed,
        )

    def _open(self, payload: Payload) -> Payload:
        key_id = payload.metadata["key-id"].decode("ascii", "replace")
        compression = payload.metadata["compression"].decode("ascii", "replace")
        salt, sealed = payload.data[:_SALT_SIZE], payload.data[_SALT_SIZE:]
        key, nonce = _derived(self._keyring.key(key_id), salt)
        try:
            content = AESGCM(key).decrypt(nonce, sealed, _bound_data(key_id, compression))
        except InvalidTag:
            message = f"payload sealed with key {key_id} does not open"
            raise DataDamaged(message, hint=_DAMAGED_HINT) from None
        return Payload.FromString(_decompressed(compression, content))


def data_converter(keyring: Keyring | None) -> DataConverter:
    """Return the one converter of all our processes; ``keyring`` None leaves payloads in clear."""
    return DataConverter(
        payload_converter_class=HoldfastPayloadConverter,
        payload_codec=None if keyring is None else SealingCodec(keyring),
        failure_converter_class=(HoldfastFailureConverter if keyring is None else SealedFailureConverter),
    )


def _is_sealed(payload: Payload) -> bool:
    return payload.metadata.get("encoding") == SEALED_ENCODING.encode()


def _derived(key: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Return the key and nonce of one payload."""
    info = SEALED_ENCODING.encode()
    both = HKDF(SHA256(), length=KEY_SIZE + _NONCE_SIZE, salt=salt, info=info).derive(key)
    return both[:KEY_SIZE], both[KEY_SIZE:]


def _bound_data(key_id: str, compression: str) -> bytes:
    """Return the metadata as additional data; no field can hold the separator."""
    return b"\0".join((SEALED_ENCODING.encode(), key_id.encode(), compression.encode()))


def _compressed(content: bytes) -> tuple[str, bytes]:
    if len(content) >= _COMPRESS_FROM:
        shrunk = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL).compress(content)
        if len(shrunk) < len(content):
            return "zstd", shrunk
    return "none", content


def _decompressed(compression: str, content: bytes) -> bytes:
    """Undo `_compressed`. The content is authentic: only a newer writer can make this fail."""
    if compression == "none":
        return content
    if compression != "zstd":
        message = f"payload compression {compression} is not known to this version"
        raise DataDamaged(message, hint="Use the Holdfast version that wrote it, or a later one.")
    if zstandard.frame_content_size(content) > _PAYLOAD_SIZE_MAX:
        message = f"payload decompresses to more than {_PAYLOAD_SIZE_MAX} bytes"
        raise DataDamaged(message, hint=_DAMAGED_HINT)
    return zstandard.ZstdDecompressor().decompress(content, max_output_size=_PAYLOAD_SIZE_MAX)
