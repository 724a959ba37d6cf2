"""The registry of published dictionary formats, and the one function that reads any of them.

A format is known by the files of its folder. Another package adds its own by an entry point of the group
`levercheck.sae_formats` whose module registers a `Format` under the entry point's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from levercheck.errors import MissingError, UsageError
from levercheck.lm.places import Site, parse_site
from levercheck.lm.saes.sae import Sae
from levercheck.lm.saes.source import Source, open_source
from levercheck.registry import Registry


@dataclass(frozen=True)
class Format:
    """Files whose presence tells a format, and its reader. The site, where given, is the user's."""

    files: tuple[str, ...]
    read: Callable[[Source, Site | None], Sae]


FORMATS: Registry[Format] = Registry("dictionary format", "levercheck.sae_formats")


def load_sae(spec: str | Path, site: Site | str | None = None) -> Sae:
    """A dictionary of any known format from a local folder or from `hf:owner/repo:folder`.

    site: needed only where the files do not say which site they are for. Facts record the format, the digests of the
    files and what they say of the model. Raises UsageError for what is no usable autoencoder, MissingError when the hub
    cannot be reached, IntegrityError for damaged files.
    """
    _register()
    source = open_source(spec)
    given = parse_site(site) if isinstance(site, str) else site
    name = _format_of(source)
    if name is None:
        if source.repo is not None and source.reason is not None:
            raise MissingError(
                f"{source.name} could not be fetched ({source.reason}): check the name and the network, or download "
                "the folder and give its path"
            )
        raise UsageError(f"{source.name} holds no dictionary of a known format: {_expected()}")
    return FORMATS.find(name).read(source, given)


def sae_folder(folder: Path) -> str | None:
    """The name of the format whose dictionary lies in a local folder, or None."""
    _register()
    return _format_of(open_source(folder)) if folder.is_dir() else None


def _format_of(source: Source) -> str | None:
    return next((name for name in FORMATS.names() if source.has(*FORMATS.find(name).files)), None)


def _expected() -> str:
    return "expected " + "; ".join(" + ".join(FORMATS.find(name).files) for name in FORMATS.names())


def _register() -> None:
    from levercheck.lm.saes import dictionary_learning, gemma_scope, saelens, sparsify, stored  # noqa: F401
