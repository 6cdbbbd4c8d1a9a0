"""``predict``: score files and folders offline."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from service.cli.model import open_model, settings_for
from service.errors import OutputError
from service.settings import Settings

_DESCRIPTION = """\
Score image files, and the images in folders, without a server: through the same code, with the same
settings and limits. One row for each file, in the same order on every run; a file that cannot be scored
gets a row that says why.

With an --output that exists, the files that have a row there are not scored again, so a run that was
stopped goes on with the same command. Rows of another model or with other columns are not mixed.

In rows, control characters, backslashes and bytes that are no UTF-8 stand in paths as Python escapes,
and a path that a spreadsheet would take for a formula begins with "./".

Exit status: 0 all were scored; 1 some have a row that says why not, or there was nothing to score;
2 wrong options or settings, a bundle that cannot be served, or an output that cannot be written;
130 stopped by Ctrl+C.
"""


def add(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser(
        "predict",
        help="score files and folders, to CSV or JSON lines",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="an image file, or a folder of them")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument(
        "--format", choices=["csv", "jsonl"], help="default: jsonl if FILE is named so, else csv"
    )
    parser.add_argument("--overwrite", action="store_true", help="throw away what FILE holds")
    parser.add_argument("--recursive", action="store_true", help="enter folders in folders")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="default: DERMASERVE_BUNDLE")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], help="default: DERMASERVE_DEVICE")
    parser.add_argument(
        "--gradcam",
        type=Path,
        metavar="DIR",
        help="write an overlay of each image into DIR: of the label, or, where the flag is raised and the "
        "label is benign, of the most probable malignant class",
    )
    parser.set_defaults(command=_predict)


def _predict(options: argparse.Namespace) -> int:
    settings = settings_for(options)
    try:
        return _run(options, settings)
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace, settings: Settings) -> int:
    from tqdm import tqdm

    from service.bulk.files import ENDINGS, find, path_text
    from service.bulk.output import open_output
    from service.bulk.rows import FORMATS, Failure, Scored
    from service.bulk.scoring import score
    from service.observability.logs import set_up_logs
    from service.system.memory import return_large_blocks

    set_up_logs("text", "warning")
    return_large_blocks()
    if options.output and options.output.name.lower().endswith(ENDINGS):
        raise OutputError(
            f"--output: expected a file for rows, got {options.output}, which is named as an image"
        )
    found = find(options.paths, recursive=options.recursive, besides=options.gradcam)
    for note in found.notes:
        print(note, file=sys.stderr)
    if not found.paths:
        print("error: there is nothing to score", file=sys.stderr)
        return 1
    loaded = open_model(settings)
    manifest = loaded.bundle.manifest
    if options.gradcam is not None:
        _make_folder(options.gradcam)
    named = "jsonl" if options.output and options.output.suffix == ".jsonl" else "csv"
    format_ = FORMATS[options.format or named](manifest, overlays=options.gradcam is not None)
    output = open_output(
        options.output, format_, (manifest.name, manifest.version), overwrite=options.overwrite
    )
    before = [output.done[text] for path in found.paths if (text := path_text(path)) in output.done]
    paths = [path for path in found.paths if path_text(path) not in output.done]
    failed = sum(row.failed for row in before)
    # Without a terminal there is no bar.
    with tqdm(total=len(found.paths), initial=len(before), unit=" images", disable=None) as bar:

        def write(scored: Scored) -> None:
            nonlocal failed
            failed += isinstance(scored.outcome, Failure)
            output.write(format_.line(scored))
            bar.update()

        if paths:
            asyncio.run(score(loaded, settings, paths, write, overlays=options.gradcam))
    output.close()
    already = f", {len(before)} of them before" if before else ""
    print(f"{len(found.paths)} files{already}: {failed} could not be scored", file=sys.stderr)
    return 1 if failed else 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error
