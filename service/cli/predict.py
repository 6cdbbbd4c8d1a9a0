"""``predict``: score files and folders without a server."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from service.cli import predict_ray
from service.cli.model import open_model, settings_for
from service.errors import OutputError
from service.settings import Settings

_DESCRIPTION = """\
Score image files, and the image files in folders, without a server. The command uses the code, settings and
limits of the service. It writes one row for each file, in the same order on every run. A file that cannot be
scored gets a row that says why.

If the --output exists, files that have a row in it are not scored again: to resume a stopped run, repeat the
command. Rows of another model or with other columns are not mixed.

With --ray, the files are scored on a cluster, and rows of the same columns are written to Parquet files.

In the paths of rows, control characters, backslashes and bytes that are not UTF-8 are written as Python
escapes. A path that a spreadsheet would take for a formula begins with "./".

Exit status: 0 if all files were scored; 1 if some have a row that says why not, or there was nothing to
score; 2 for wrong options, settings or metadata, a bundle that cannot be served, or an output that cannot be
written; 130 if stopped by Ctrl+C.
"""


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "predict",
        help="score files and folders, to CSV or JSON lines",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="an image file, or a folder of them")
    parser.add_argument("--output", metavar="FILE", help="default: standard output")
    parser.add_argument(
        "--format", choices=["csv", "jsonl"], help="default: jsonl if FILE ends in .jsonl, else csv"
    )
    parser.add_argument("--overwrite", action="store_true", help="delete the contents of FILE")
    parser.add_argument("--recursive", action="store_true", help="enter subfolders")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="default: DERMASERVE_BUNDLE")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="default: DERMASERVE_DEVICE")
    parser.add_argument(
        "--gradcam",
        type=Path,
        metavar="DIR",
        help="write an overlay of each image into DIR, for the label, or for the most probable malignant "
        "class if the flag is malignant and the label is benign",
    )
    parser.add_argument(
        "--metadata",
        type=Path,
        metavar="CSV",
        help="age, sex and body site of the files: the columns path (or file: a file name), age, sex, site; "
        "an empty cell is not known",
    )
    predict_ray.add_options(parser)
    parser.set_defaults(command=_predict)


def _predict(options: argparse.Namespace) -> int:
    predict_ray.check_options(options)
    settings = settings_for(options)
    try:
        return predict_ray.run(options, settings) if options.ray else _run(options, settings)
    except KeyboardInterrupt:
        print("stopped; repeat the command to resume", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace, settings: Settings) -> int:
    from tqdm import tqdm

    from models.bundle import NO_METADATA
    from service.bulk.files import ENDINGS, Input, find_files, path_text
    from service.bulk.metadata import read_metadata
    from service.bulk.output import open_output
    from service.bulk.rows import FORMATS, Failure, Scored
    from service.bulk.scoring import score
    from service.observability.logs import set_up_logs
    from service.system.memory import return_large_blocks

    set_up_logs("text", "warning")
    return_large_blocks()
    target = Path(options.output) if options.output else None
    if target and target.name.lower().endswith(ENDINGS):
        raise OutputError(f"--output: expected a file for rows, got {target}, which has the name of an image")
    files = find_files(options.paths, recursive=options.recursive, exclude=options.gradcam)
    for note in files.notes:
        print(note, file=sys.stderr)
    if not files.paths:
        print("error: there is nothing to score", file=sys.stderr)
        return 1
    metadata = None if options.metadata is None else read_metadata(options.metadata, files.paths)
    loaded = open_model(settings)
    manifest = loaded.bundle.manifest
    if metadata is not None:
        print(f"{len(metadata)} of {len(files.paths)} files have metadata", file=sys.stderr)
        if manifest.metadata is None:
            print("the model reads only images: the metadata is not used", file=sys.stderr)
    if options.gradcam is not None:
        _make_folder(options.gradcam)
    named = "jsonl" if target and target.suffix == ".jsonl" else "csv"
    format_ = FORMATS[options.format or named](
        manifest, overlays=options.gradcam is not None, metadata=metadata is not None
    )
    output = open_output(target, format_, (manifest.name, manifest.version), overwrite=options.overwrite)
    finished = [output.finished[text] for path in files.paths if (text := path_text(path)) in output.finished]
    known = metadata or {}
    inputs = [
        Input(path, known.get(path, NO_METADATA))
        for path in files.paths
        if path_text(path) not in output.finished
    ]
    failed = sum(row.failed for row in finished)
    # ``disable=None`` shows no bar without a terminal.
    with tqdm(total=len(files.paths), initial=len(finished), unit=" images", disable=None) as bar:

        def write(scored: Scored) -> None:
            nonlocal failed
            failed += isinstance(scored.outcome, Failure)
            output.write(format_.line(scored))
            bar.update()

        if inputs:
            asyncio.run(score(loaded, settings, inputs, write, overlays=options.gradcam))
    output.close()
    earlier = f", {len(finished)} of them in earlier runs" if finished else ""
    print(f"{len(files.paths)} files{earlier}: {failed} could not be scored", file=sys.stderr)
    return 1 if failed else 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be created ({error.strerror})") from error
