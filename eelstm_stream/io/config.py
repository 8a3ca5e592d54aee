"""Settings of a program: one TOML file, then EELSTM_… environment variables, then flags, each overriding the one before.

The file has one table a program (`[serve]`, `[sim]`, …); the environment variable for `publish` in `[serve]` is
EELSTM_SERVE_PUBLISH. All is validated together, before any socket is bound, and unknown keys are errors.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from eelstm_stream.errors import UsageError

TABLES = ("serve", "sim", "usim", "listen", "control", "guard", "operator", "dashboard")


class Settings(BaseSettings):
    """Base of every program's settings."""

    TABLE: ClassVar[str]
    _from_file: ClassVar[dict[str, Any]] = {}

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags before environment before file; pydantic-settings takes the first that has a value."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, cls._from_file)


S = TypeVar("S", bound=Settings)


def load_settings(settings: type[S], config: Path | None, **flags: Any) -> S:
    """Settings of one program. flags: those given on the command line; None where not given.

    Raises UsageError, one sentence naming the key at fault.
    """
    table = _table(config, settings.TABLE) if config is not None else {}
    prefix = f"EELSTM_{settings.TABLE.upper()}_"
    known = ", ".join(settings.model_fields)
    in_lower_case = {name.lower() for name in settings.model_fields}  # budget_pC is EELSTM_GUARD_BUDGET_PC
    for variable in sorted(os.environ):
        if variable.upper().startswith(prefix) and variable[len(prefix) :].lower() not in in_lower_case:
            raise UsageError(f"{settings.TABLE}: {variable} in the environment is no setting; known are {known}.")

    class Loaded(settings):  # type: ignore[valid-type,misc]
        _from_file: ClassVar[dict[str, Any]] = table
        model_config = SettingsConfigDict(env_prefix=prefix)

    try:
        loaded: S = Loaded(**{key: value for key, value in flags.items() if value is not None})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"]))
        reason = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            reason = f"no setting of this name; known are {known}"
        elif fault["type"] != "value_error":  # our own sentences name what was given; pydantic's don't
            reason += f", and {str(fault['input'])[:80]!r} was given"
        raise UsageError(f"{settings.TABLE}: {key}: {reason}" if key else f"{settings.TABLE}: {reason}") from None
    return loaded


def _table(config: Path, name: str) -> dict[str, Any]:
    try:
        content = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{config} can't be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{config} is not TOML: {error}.") from None
    unknown = sorted(set(content) - set(TABLES))
    if unknown:
        raise UsageError(f"{config} has {unknown[0]!r}, and the tables known here are {', '.join(TABLES)}.")
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise UsageError(f"{config}: {name!r} must be a table, as [{name}].")
    return table
