"""What a server can be told, from flags, environment and a file, with one precedence."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, PlainValidator, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from calib.conventions import ADDRESS, ExpiryCalendar, span_of
from calib.errors import InvalidRequest
from calib.market.variance_clock import VarianceClock
from calib.modelrisk.monitor import MonitorSettings
from calib.service.compilation import default_cache
from calib.service.model_risk_settings import monitor_settings
from calib.service.protection.exposure import check_protection
from calib.service.protection.identity import Grant, Limits
from calib.service.protection.tls import TlsFiles
from calib.states import ModelName
from calib.store.database import address_of, sqlite_file

_Member = TypeVar("_Member", bound=IntEnum)


def _by_name(kind: type[_Member]) -> BeforeValidator:
    def member(value: object) -> object:
        if isinstance(value, str) and value.strip().upper() in kind.__members__:
            return kind[value.strip().upper()]
        if isinstance(value, kind):
            return value
        names = ", ".join(name.lower() for name in kind.__members__)
        raise ValueError(f"must be one of {names}")

    return BeforeValidator(member)


def _span(value: object) -> object:
    return span_of("it", value) if isinstance(value, str) else value


def _none(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() in ("", "none") else value


def _clock(value: object) -> VarianceClock:
    return value if isinstance(value, VarianceClock) else VarianceClock.from_table(value)


ModelRisk = Annotated[MonitorSettings, PlainValidator(monitor_settings)]
"""A table of thresholds: see `calib.service.model_risk_settings`."""
Model = Annotated[ModelName, _by_name(ModelName)]
Calendar = Annotated[ExpiryCalendar, _by_name(ExpiryCalendar)]
Clock = Annotated[VarianceClock, PlainValidator(_clock)]
"""A table of ``weekly``, ``closures`` and ``events``: see `calib.market.variance_clock`."""
Address = Annotated[str, Field(pattern=ADDRESS)]
"""HOST:PORT."""
Span = Annotated[timedelta, BeforeValidator(_span), Field(gt=timedelta(0))]
"""A positive span of time: text like 500ms, 30s, 10min, 1h, or seconds as a number."""


class LogFormat(StrEnum):
    """How log lines look: for people, as JSON objects, or whichever fits where they go."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least severe lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ServiceSettings(BaseSettings):
    """Settings of a server.

    Each is taken from the flag that names it, else from the environment (``CALIB_`` and its name
    in capitals; tables as JSON), else from the TOML file, else from here.
    """

    model_config = SettingsConfigDict(
        env_prefix="CALIB_", env_nested_delimiter=None, extra="forbid", frozen=True
    )

    listen: Address = "127.0.0.1:50051"
    """HOST:PORT to listen on; port 0 takes a free one. Beyond loopback it takes TLS and identities,
    or ``insecure``."""
    tls_certificate: Annotated[Path | None, BeforeValidator(_none)] = None
    """PEM file of the server's certificate and what it is signed by; with ``tls_key``, callers need
    TLS. All files of TLS are read anew for each connection."""
    tls_key: Annotated[Path | None, BeforeValidator(_none)] = None
    """PEM file of its key."""
    tls_client_ca: Annotated[Path | None, BeforeValidator(_none)] = None
    """PEM file of the authorities of client certificates; with it every caller needs one."""
    tokens: Annotated[Path | None, BeforeValidator(_none)] = None
    """File of bearer tokens, a line each: an identity and its token, or sha256: and the hash of
    one. It is read again within a second when it changes."""
    identities: dict[str, Grant] = Field(default_factory=dict)
    """Who may do what; none: whoever reaches the server may do everything. ``anonymous`` is whoever
    shows no token and no certificate of another, and has no rights where it is left out::

        [identities.quoter]
        certificates = ["quoter.desk.example"]
        read = ["*"]
        [identities.deribit-feed]
        publish = ["BTC", "ETH"]
        limits = { rows_per_second = 200_000 }
    """
    limits: Limits = Field(default_factory=Limits)
    """What one client may ask for, an identity, or a host of anonymous callers; of no meaning where
    there are no identities."""
    insecure: bool = False
    """Whether to listen beyond loopback, to calls or for metrics, without what protects that."""
    store: Annotated[str | None, BeforeValidator(_none)] = "sqlite:///calib.db"
    """URL of an SQLite or PostgreSQL database, or path of an SQLite file, that keeps what was
    published, found and done; none: no store."""
    store_quotes: bool = True
    """Whether the store keeps the quotes behind every surface too, without which no surface can be
    built again."""
    quotes_folder: Annotated[Path | None, BeforeValidator(_none)] = None
    """Folder of these quotes; none: beside the SQLite file, calib.quotes for calib.db. PostgreSQL
    needs one to be named."""
    keep_rows: Annotated[Span | None, BeforeValidator(_none)] = None
    """How long the store keeps surfaces, metrics, alarms and transitions, counted back from its
    latest surface, like 365d; none: always. Operator actions are kept always."""
    keep_quotes: Annotated[Span | None, BeforeValidator(_none)] = None
    """How long the store keeps quotes, whole UTC days, counted in the same way; none: always."""
    model: Model = ModelName.SVI
    """The model of every underlying that ``models`` does not name."""
    models: dict[str, Model] = Field(default_factory=dict)
    """The model of single underlyings."""
    calendars: dict[str, Calendar] = Field(default_factory=dict)
    """How the expiries of single underlyings hang together; same_asset where not named."""
    clocks: dict[str, Clock] = Field(default_factory=dict)
    """The variance time of single underlyings, in which expiries are interpolated; plain years
    where not named. For example::

        [clocks.BTC]
        weekly = [{ start = "Saturday 06:00", end = "Sunday 18:00", weight = 0.4 }]
        closures = [{ start = 2026-12-25T00:00:00Z, end = 2026-12-26T00:00:00Z, weight = 0.6 }]
        events = [{ start = 2026-12-09T19:00:00Z, extra_days = 0.5 }]
    """
    quote_max_age: Span = timedelta(minutes=10)
    """A quote this much older than the latest of its underlying no longer counts; a surface whose
    underlying brings no quotes for this long is stale."""
    clock_skew: Span = timedelta(days=1)
    """Quotes stamped further ahead of the server's clock than this are refused: one stamp that is
    taken makes all older quotes old. A simulated market replayed faster than it was recorded runs
    ahead of the clock; a server that only real feeds publish to can do with seconds."""
    level_stickiness: float = Field(0.5, ge=0.0, le=2.0)
    """By how much the vols of a surface follow a move of its forwards between two fits, as a
    skew-stickiness ratio: 0 keeps them with their moneyness, 1 the vol at the money with its
    strike. Within the factor that the certificate is proved for."""
    model_risk: ModelRisk = Field(default_factory=MonitorSettings)
    """The thresholds of model risk; what is not named stays as in `calib.modelrisk`, and the limit
    of age in STALE_FEED is ``quote_max_age``. For example::

        [model_risk.breakers]
        probation_seconds = 60.0
        [model_risk.breakers.limits.innovation]
        widened = 5.0
        held = inf  # never
        [model_risk.charts.cusum]
        limit = 6.0
        [model_risk.venues]
        silent_seconds = 30.0
        apart = inf  # never left out for its vols
    """
    compare_every: Annotated[Span | None, BeforeValidator(_none)] = None
    """How often the other models are fitted to the quotes of each underlying, when nothing else is
    fitted, like 60s; none: never. Warm-up then compiles all three models, which takes minutes
    where the compilation cache is empty."""
    store_metrics_every: Span = timedelta(seconds=10)
    """Metrics of an underlying are stored at most this often, about 30 kB for a dozen expiries, in
    the market's own time; and always with an alarm or a change of level."""
    metrics: Annotated[Address | None, BeforeValidator(_none)] = None
    """HOST:PORT where a Prometheus server reads metrics over HTTP; none: nowhere. Beyond loopback
    it takes ``insecure``."""
    heartbeat: Span = timedelta(seconds=5)
    """Longest silence in a watch that names no interval of its own."""
    write_timeout: Span = timedelta(seconds=5)
    """A watcher that takes nothing for this long is dropped; it may resume."""
    shutdown_grace: Span = timedelta(seconds=5)
    """How long calls may take to end when the server does; and as long again each, what was
    acknowledged to be fitted and what was published to be stored."""
    max_watches: int = Field(2_000, ge=1)
    """Watches open at once, of each kind."""
    max_waiting_rows: int = Field(200_000, ge=1)
    """Rows that wait for one reader of quotes before its watch ends, about 80 bytes each."""
    max_calibrations: int = Field(8, ge=1)
    """Calibrate calls waiting or running at once."""
    max_underlyings: int = Field(1_000, ge=1)
    """Underlyings that quotes may name."""
    max_venues: int = Field(32, ge=1)
    """Venues that may quote one underlying."""
    max_options: int = Field(100_000, ge=1)
    """Options of one underlying that one venue may quote at once."""
    max_message_bytes: int = Field(16 * 2**20, ge=2**16)
    """Largest message, either way."""
    store_buffer_bytes: int = Field(256 * 2**20, ge=2**20)
    """Memory for what waits for a slow store before the oldest of it is given up: a surface needs
    about 10 kB, and 120 bytes more for each quote behind it that is stored too."""
    warm_up: bool = True
    """Whether to compile the usual shapes before serving; else the first fits take seconds."""
    warm_up_expiries: tuple[Annotated[int, Field(ge=1, le=64)], ...] | None = None
    """Expiries of the chains, of thirty to sixty strikes each, whose shapes those are. Fits are
    padded to 4, 8, 12, 16, 24, 32, 48 or 64 expiries; each of these is three shapes to compile. Not
    given: the shapes of the surfaces that the store gives back, or, where it gives none, those of
    12 and 16 expiries."""
    compilation_cache: Annotated[Path | None, BeforeValidator(_none)] = Field(
        default_factory=default_cache
    )
    """Folder that keeps compiled fits between runs, writable by the server's user alone; none: no
    such folder."""
    log_level: LogLevel = LogLevel.INFO
    """The least severe log lines that are written."""
    log_format: LogFormat = LogFormat.AUTO
    """Log lines for people, as JSON, or by whether they go to a terminal."""

    @model_validator(mode="after")
    def _protected(self) -> ServiceSettings:
        check_protection(self)
        return self

    @model_validator(mode="after")
    def _keeping(self) -> ServiceSettings:
        beside = self.store is None or sqlite_file(address_of(self.store)) is not None
        if self.store_quotes and self.quotes_folder is None and not beside:
            raise ValueError(
                f"store_quotes = true with store = {self.store!r} needs quotes_folder, the folder "
                "that the input quotes are kept in; or set store_quotes = false"
            )
        return self

    @property
    def tls(self) -> TlsFiles | None:
        """The files of TLS; None: callers come without."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        return TlsFiles(self.tls_certificate, self.tls_key, self.tls_client_ca)

    @property
    def monitor(self) -> MonitorSettings:
        """The thresholds of model risk, ages counted by the limit of quotes."""
        return replace(self.model_risk, quote_max_age_seconds=self.quote_max_age.total_seconds())

    def model_of(self, underlying: str) -> ModelName:
        """The model that this underlying is calibrated with."""
        return self.models.get(underlying, self.model)

    def calendar_of(self, underlying: str) -> ExpiryCalendar:
        """How this underlying's expiries hang together."""
        return self.calendars.get(underlying, ExpiryCalendar.SAME_ASSET)

    def clock_of(self, underlying: str) -> VarianceClock | None:
        """The clock that this underlying's expiries are interpolated in; None: plain years."""
        return self.clocks.get(underlying)


def load_settings(
    config: str | Path | None = None, flags: Mapping[str, Any] | None = None
) -> ServiceSettings:
    """Settings from ``flags`` (None: not given), the environment and the TOML file ``config``.

    Raises InvalidRequest, naming the setting and its value, where one cannot be used or does not
    exist, and where the file cannot be read.
    """
    from_file = {} if config is None else _read(Path(config))

    class _Layered(ServiceSettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, from_file)

    given = {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        layered = _Layered(**given)
    except (ValidationError, ValueError) as error:
        raise InvalidRequest(_explained(error, config)) from error
    return ServiceSettings.model_construct(**{name: getattr(layered, name) for name in _fields()})


def named_in(config: Path) -> list[str]:
    """The settings that a file names; raises InvalidRequest where it cannot be read."""
    return list(_read(config))


def _fields() -> list[str]:
    return list(ServiceSettings.model_fields)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest(f"settings file {path} cannot be read: {error}") from error


def _explained(error: Exception, config: str | Path | None) -> str:
    if not isinstance(error, ValidationError):
        return f"settings: {error}"
    lines = []
    for one in error.errors():
        name = ".".join(str(part) for part in one["loc"])
        said = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            where = f" (in {config})" if config else ""
            lines.append(f"there is no setting {name!r}{where}")
        elif not name:  # about several settings, which it names
            lines.append(said)
        else:
            lines.append(f"setting {name} = {one['input']!r}: {said}")
    return "; ".join(lines)
