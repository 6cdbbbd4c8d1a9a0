"""``predict --ray``: score images on a Ray cluster."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from service.cli.model import check_bundle
from service.errors import OptionError, UnreadableFile
from service.settings import Settings

if TYPE_CHECKING:
    from service.bulk.files import Input
    from service.bulk.store import Place

_ONLY_WITH_RAY = {"address": None, "manifest": None, "actors": None, "cores": 1, "part_size": 1000}
"""Destination to default."""

_ONLY_WITHOUT_RAY = ("format", "overwrite", "gradcam")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``--ray``."""
    group = parser.add_argument_group("on a Ray cluster")
    group.add_argument(
        "--ray",
        action="store_true",
        help="score on a Ray cluster; PATH may be a URI (s3://, gs://, abfs://), and --output is "
        "a folder or URI for Parquet files; needs the extra ray",
    )
    group.add_argument(
        "--address",
        help="of the cluster, such as auto or host:6379; default: RAY_ADDRESS, or a cluster on this machine, "
        "or else a new one on it",
    )
    group.add_argument(
        "--manifest",
        metavar="FILE",
        help="CSV (.csv) or Parquet file, or folder of Parquet files, that lists the images instead of PATH, "
        "also by URI: the column path (or uri), and optional columns age, sex, site",
    )
    group.add_argument("--actors", metavar="N", help="largest number of actors; default: all free cores")
    group.add_argument("--cores", metavar="N", help="cores of each actor; default: 1")
    group.add_argument("--part-size", metavar="N", help="images in each Parquet file; default: 1000")


def check_options(options: argparse.Namespace) -> None:
    """Check the combination of options, and parse the numbers.

    Raises:
        OptionError: an option is wrong.
    """
    if not options.ray:
        for name in _ONLY_WITH_RAY:
            if getattr(options, name) is not None:
                raise OptionError(f"{_option(name)}: expected together with --ray, got it without")
        if not options.paths:
            raise OptionError("PATH: expected at least one file or folder, got none")
        return
    if not all(find_spec(module) for module in ("ray", "pyarrow")):
        raise OptionError(
            "--ray: expected the extra 'ray', which is not installed "
            "(python -m pip install --require-hashes -r requirements/ray.txt installs it)"
        )
    for name in _ONLY_WITHOUT_RAY:
        if getattr(options, name):
            raise OptionError(f"{_option(name)}: expected without --ray, got it together with --ray")
    if options.output is None:
        raise OptionError("--output: expected a folder or URI for Parquet files with --ray, got none")
    if (options.manifest is None) == (not options.paths):
        got = "both" if options.paths else "none"
        raise OptionError(f"--manifest: expected either PATH or --manifest, got {got}")
    if options.manifest is not None and options.metadata is not None:
        raise OptionError("--metadata: expected columns of --manifest instead, got both options")
    if options.manifest is not None and options.recursive:
        raise OptionError("--recursive: expected together with PATH, got it together with --manifest")
    for name in ("actors", "cores", "part_size"):
        given = getattr(options, name)
        if given is not None:
            setattr(options, name, _positive(name, given))
        else:
            setattr(options, name, _ONLY_WITH_RAY[name])


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _positive(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:9]) > 0 and len(text) < 9):
        raise OptionError(f"{_option(name)}: expected a number from 1 to 99999999, got {text!r}")
    return int(text)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Run the command and return its exit status."""
    from tqdm import tqdm

    from service.bulk import cluster
    from service.bulk.files import path_text
    from service.bulk.parquet import PartFolder
    from service.bulk.parts import parts_to_score
    from service.bulk.rows import Columns
    from service.observability.logs import set_up_logs

    set_up_logs("text", "warning")
    here = str(Path.cwd())
    bundle = check_bundle(settings)
    inputs, metadata = _inputs(options, here)
    if not inputs:
        print("error: there is nothing to score", file=sys.stderr)
        return 1
    if metadata and bundle.manifest.metadata is None:
        print("the model reads only images: the metadata is not used", file=sys.stderr)
    columns = Columns(bundle.manifest, overlays=False, metadata=metadata)
    folder = PartFolder(_place("--output", options.output, here), columns, bundle.digest)
    folder.create()
    rows = folder.read_finished()
    finished = [text for entry in inputs if (text := path_text(entry.path)) in rows]
    failed = sum(rows[text] for text in finished)
    parts = list(parts_to_score(inputs, rows, size=options.part_size, digest=bundle.digest))
    total = len(inputs)
    del inputs, rows
    if parts:
        cluster.connect(options.address)
        job = cluster.Job(settings, options.output, here, metadata, options.cores)
        try:
            with tqdm(total=total, initial=len(finished), unit=" images", disable=None) as bar:
                for done in cluster.score_parts(bundle, job, parts, actors=options.actors):
                    folder.check(done.file)
                    failed += done.failed
                    bar.update(done.images)
        finally:
            cluster.disconnect()
    earlier = f", {len(finished)} of them in earlier runs" if finished else ""
    print(f"{total} files{earlier}: {failed} could not be scored", file=sys.stderr)
    return 1 if failed else 0


def _inputs(options: argparse.Namespace, here: str) -> "tuple[list[Input], bool]":
    """Return the images of the run, and whether their metadata is given."""
    from models.bundle import NO_METADATA
    from service.bulk.files import Input
    from service.bulk.metadata import read_metadata
    from service.bulk.parquet import open_manifest
    from service.bulk.store import find_images

    if options.manifest is not None:
        return open_manifest(options.manifest, _place("--manifest", options.manifest, here))
    try:
        files = find_images(options.paths, recursive=options.recursive, folder=here)
    except UnreadableFile as error:
        raise OptionError(f"PATH: {error}") from error
    for note in files.notes:
        print(note, file=sys.stderr)
    if options.metadata is None:
        return [Input(path) for path in files.paths], False
    known = read_metadata(options.metadata, files.paths)
    print(f"{len(known)} of {len(files.paths)} files have metadata", file=sys.stderr)
    return [Input(path, known.get(path, NO_METADATA)) for path in files.paths], True


def _place(option: str, path: str, here: str) -> "Place":
    from service.bulk.store import place_of

    try:
        return place_of(path, here)
    except UnreadableFile as error:
        raise OptionError(f"{option}: {error}") from error
