"""Every setting, in one tree.

Values come, the first that has one wins, from: keyword arguments, environment variables
(``VIVAVOCE_`` + the field's name in capitals; for an engine's own, ``VIVAVOCE_PIPER__THREADS``),
the configuration file (TOML; ``--config`` or ``VIVAVOCE_CONFIG``), the defaults here. Names in
``aliases`` are those of the servers people move over from; they work without a prefix. Unknown
keys, in the file or with the prefix in the environment, are errors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as PydanticSettingsError,
)

from vivavoce.engine_tables import (
    asked_of_any,
    gathered,
    table_name,
    table_names,
    tables_in_environment,
)
from vivavoce.errors import SettingsError
from vivavoce.key_table import (
    MAX_KEYS,
    KeyTable,
    check_distinct,
    check_plain,
    check_secret,
    split_keys,
    split_names,
)
from vivavoce.settings_faults import check_environment, explain, leave_out_empty, unreadable

PREFIX = "VIVAVOCE_"
CONFIG_VARIABLE = "VIVAVOCE_CONFIG"
NOT_SETTINGS = ("config", "cache_dir", "api_key")
"""What the prefix names besides: the configuration file, the cache, another spelling of keys."""
MEANINGFUL_EMPTY = ("QUANTIZE", "VIVAVOCE_QUANTIZE", "VIVAVOCE_API_KEY", "VIVAVOCE_API_KEYS")
"""Variables whose empty value means something: it switches quantizing off, as with the server the
name comes from; and a key that was not filled in must not open a server."""

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_names)]
PlainKeys = Annotated[
    tuple[str, ...], NoDecode, BeforeValidator(split_keys), AfterValidator(check_plain)
]


def _also(name: str, *others: str) -> AliasChoices:
    """The field's prefixed variable, and other servers' names for it."""
    return AliasChoices(PREFIX + name.upper(), *others)


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback) / "vivavoce"


class Settings(BaseSettings):
    """All settings of a server. Times in seconds, sizes in bytes, unless the name says else."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        populate_by_name=True,
        frozen=True,
        validate_default=True,
        case_sensitive=False,
    )

    # Where it listens, and who may come in.
    host: str = Field("127.0.0.1", description="Address to bind.")
    port: int = Field(8000, ge=0, le=65_535, description="Port to bind; 0 picks a free one.")
    api_keys: PlainKeys = Field(
        (),
        validation_alias=_also("api_keys", "VIVAVOCE_API_KEY"),
        description="Keys that clients must send, separated by commas.",
    )
    keys: tuple[KeyTable, ...] = Field(
        (), max_length=MAX_KEYS, description="Keys with names and limits: tables `[[keys]]`."
    )
    token_secret: Annotated[str, AfterValidator(check_secret)] = Field(
        "", description="Signs client tokens, 16 characters at least; by default the keys do."
    )
    allow_public_without_key: bool = Field(
        False, description="Permit binding to a public address without an API key."
    )
    allowed_hosts: Names = Field(
        (),
        description="Host names to answer for besides this machine's own; `*.example.com` is all "
        "below it, a port may be added.",
    )
    cors_origins: Names = Field((), description="Origins a browser may call from.")
    ssl_certfile: Path | None = Field(
        None, validation_alias=_also("ssl_certfile", "SSL_CERTFILE"), description="TLS certificate."
    )
    ssl_keyfile: Path | None = Field(
        None, validation_alias=_also("ssl_keyfile", "SSL_KEYFILE"), description="TLS private key."
    )

    compat: Literal["", "qwen3-tts-server", "neutts-server"] = Field(
        "", description="Serve the clients of another server as it did."
    )

    # Which engine speaks.
    engine: str = Field("piper", description="The engine: piper, qwen3, neutts, fake, or yours.")
    model_id: str = Field(
        "",
        validation_alias=_also("model_id", "MODEL_ID"),
        description="The engine's model, where it has several: a name or a folder.",
    )
    default_voice: str = Field("", description="Voice for requests that name none.")
    preload_model: bool = Field(
        True,
        validation_alias=_also("preload_model", "PRELOAD_MODEL"),
        description="Load the model at start rather than with the first request.",
    )
    idle_timeout_s: float = Field(
        0.0,
        ge=0,
        validation_alias=_also("idle_timeout_s", "IDLE_TIMEOUT"),
        description="Unload the model after so long without a request; 0 keeps it.",
    )
    engines: dict[str, dict[str, Any]] = Field(
        {}, description="Options of engines: a table for each under its own name, as `[piper]`."
    )
    quantize: str = Field(
        "auto",
        validation_alias=_also("quantize", "QUANTIZE"),
        description="Smaller weights, where the engine has them: int8, fp8, none; auto is the "
        "engine's choice (Qwen3-TTS: int8 on CUDA, none on a CPU).",
    )
    torch_compile: bool | None = Field(
        None,
        validation_alias=_also("torch_compile", "TORCH_COMPILE"),
        description="Whether to use torch.compile: false is off, whatever the mode; unset is the "
        "engine's choice (Qwen3-TTS: its codec, on CUDA).",
    )
    torch_compile_mode: str | None = Field(
        None,
        validation_alias=_also("torch_compile_mode", "TORCH_COMPILE_MODE"),
        description="max-autotune (Qwen3-TTS unless set), reduce-overhead, default or off; used on "
        "CUDA only.",
    )
    cuda_graphs: bool | None = Field(
        None,
        validation_alias=_also("cuda_graphs", "CUDA_GRAPHS"),
        description="Replay captured CUDA graphs; unset, where the engine and the device can.",
    )
    gpu_memory_budget_mb: int = Field(
        0,
        ge=0,
        validation_alias=_also("gpu_memory_budget_mb", "GPU_MEMORY_BUDGET_MB"),
        description="Memory of the GPU that the engine may take, in MB, without CUDA's own "
        "context; 0 means all that is free.",
    )

    # How much at once, and for how long.
    capacity: int | None = Field(
        None, ge=1, description="Requests that speak at once; by default what the engine takes."
    )
    max_queue_depth: int = Field(
        32,
        ge=0,
        validation_alias=_also("max_queue_depth", "MAX_QUEUE_DEPTH"),
        description="Requests that may wait for a slot; 0 means no bound.",
    )
    request_timeout_s: float = Field(
        300.0,
        gt=0,
        validation_alias=_also("request_timeout_s", "REQUEST_TIMEOUT"),
        description="The longest a request may take.",
    )
    stall_timeout_s: float = Field(
        30.0, gt=0, description="How long a client may read nothing before its stream ends."
    )
    drain_timeout_s: float = Field(
        30.0, ge=0, description="How long running streams may go on after SIGTERM."
    )
    max_step_s: float = Field(
        30.0,
        gt=0,
        description="An engine step, or taking a request in, that is longer makes /livez fail.",
    )
    max_load_s: float = Field(
        600.0, gt=0, description="The same for loading the model, downloads included."
    )
    max_unload_s: float = Field(60.0, gt=0, description="The same for unloading it.")
    max_clone_s: float = Field(300.0, gt=0, description="The same for cloning a voice.")
    exit_on_failure: bool = Field(
        False,
        description="End the process, with status 70, when the engine has failed for good.",
    )
    max_input_chars: int = Field(
        20_000,
        ge=1,
        validation_alias=_also("max_input_chars", "MAX_INPUT_CHARS"),
        description="Characters of text a request may have.",
    )
    max_body_bytes: int = Field(256 * 1024, ge=1, description="The largest JSON body.")
    max_upload_bytes: int = Field(
        12 * 1024 * 1024, ge=1, description="The largest multipart body (recordings)."
    )
    max_connections: int = Field(
        1_000,
        ge=1,
        description="Connections at once; fewer where the process may open too few files.",
    )
    head_timeout_s: float = Field(
        10.0, gt=0, description="How long the head of a request may take to arrive."
    )
    min_body_rate_bytes_s: float = Field(
        1_000.0,
        ge=0,
        description="A body that arrives more slowly than this, on average and after "
        "head_timeout_s, is given up.",
    )

    # What is remembered.
    audio_cache_max: int = Field(
        256,
        ge=0,
        validation_alias=_also("audio_cache_max", "AUDIO_CACHE_MAX"),
        description="Utterances kept in the audio cache; 0 switches it off.",
    )
    audio_cache_bytes: int = Field(
        16 * 1024 * 1024, ge=0, description="Bytes the audio cache may hold."
    )
    voice_cache_max: int = Field(
        32,
        ge=1,
        validation_alias=_also("voice_cache_max", "VOICE_CACHE_MAX"),
        description="Cloned voices kept in memory.",
    )
    max_saved_voices: int = Field(
        1_000, ge=0, description="Cloned voices that may be saved at once."
    )
    require_consent: bool = Field(
        False,
        description="Refuse recordings that come without a consent, for a saved voice and for "
        "cloning once.",
    )
    data_dir: Path = Field(
        default_factory=lambda: _xdg("XDG_DATA_HOME", ".local/share"),
        description="Where saved voices live.",
    )

    # What a server on a desktop plays on its own loudspeaker.
    playback: Literal["off", "device", "null"] = Field(
        "off", description="Play on this machine: device, or null: as if, without a sound."
    )
    playback_queue: int = Field(
        16, ge=1, le=1_000, description="Utterances that may wait to be played, or be playing."
    )
    output_dir: Path | None = Field(
        None, description="Folder below which POST / may write files; without it, nowhere."
    )

    # Text.
    text_normalize: bool = Field(
        True,
        validation_alias=_also("text_normalize", "TEXT_NORMALIZE"),
        description="Speak numbers, dates, money and the like as words.",
    )
    lexicon: Path | None = Field(None, description="Pronunciation lexicon (TOML or tab-separated).")

    # What it tells.
    log_format: Literal["json", "text", "auto"] = Field(
        "auto",
        validation_alias=_also("log_format", "LOG_FORMAT"),
        description="json, text, or auto: text on a terminal.",
    )
    log_level: str = Field(
        "INFO",
        validation_alias=_also("log_level", "LOG_LEVEL"),
        description="DEBUG, INFO, WARNING or ERROR.",
    )
    metrics: bool = Field(
        True,
        validation_alias=_also("metrics", "PROMETHEUS_ENABLED"),
        description="Serve /metrics.",
    )

    _source: tuple[Path | None, dict[str, Any]] | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _engine_tables(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Gather the tables that stand under engines' names."""
        return gathered(values, cls.model_fields)

    @field_validator("keys")
    @classmethod
    def _distinct_keys(cls, value: tuple[KeyTable, ...], info: ValidationInfo) -> Any:
        check_distinct(info.data.get("api_keys", ()), value)
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @property
    def has_keys(self) -> bool:
        """Whether callers need a key."""
        return bool(self.api_keys or self.keys)

    @property
    def config_file(self) -> Path | None:
        """The file that these settings were read from, where there is one."""
        return None if self._source is None else self._source[0]

    def reread(self) -> Settings:
        """The same sources as they are now. Raises SettingsError."""
        path, overrides = self._source or (None, {})
        return load_settings(path, **overrides)

    @property
    def engine_table(self) -> Mapping[str, Any]:
        """What was set for the engine in use alone."""
        return self.engines.get(table_name(self.engine), {})

    @property
    def engine_options(self) -> dict[str, Any]:
        """Options for the engine in use, which refuses those that it does not have."""
        named = {"model": self.model_id, "voice": self.default_voice}
        return {name: value for name, value in named.items() if value} | dict(self.engine_table)

    @property
    def shared_options(self) -> dict[str, Any]:
        """What is offered to whichever engine has such an option, but for what its table says."""
        offered = asked_of_any(self) | {"models_dir": self.data_dir / "models"}
        return {name: value for name, value in offered.items() if name not in self.engine_table}

    def with_engine_options(self, options: Mapping[str, Any]) -> Settings:
        """The same with more options for the engine in use."""
        table = {table_name(self.engine): {**self.engine_table, **options}}
        return self.model_copy(update={"engines": self.engines | table})

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the file."""
        engines = tables_in_environment(settings_cls)
        for source in (env_settings, engines):
            leave_out_empty(source, MEANINGFUL_EMPTY)
        return (init_settings, env_settings, engines, TomlConfigSettingsSource(settings_cls))


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings from everywhere. Raises SettingsError that names the key at fault."""
    names = (*Settings.model_fields, *table_names(Settings.model_fields))
    check_environment(PREFIX, (*names, *NOT_SETTINGS))
    named = os.environ.get(CONFIG_VARIABLE)
    path = config or (Path(named) if named else None)
    if path is not None and not path.is_file():
        raise SettingsError(f"The configuration file {path} does not exist.")

    class Configured(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        settings = Configured(**overrides)
    except (ValidationError, PydanticSettingsError) as error:
        raise SettingsError(explain(error, names)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from error
    settings._source = (path, overrides)
    return settings
