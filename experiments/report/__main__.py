"""The command line: `python -m experiments.report`."""

import argparse
import pathlib
import sys
from collections.abc import Callable, Sequence

from .. import _run
from . import file, measures, page, runs, verdict
from .subject import Subject, check_finite

PAGE = "report.html"

DESCRIPTION = """\
A page on a trained network: what its dynamics do to gradients, a verdict in words, and what to try.

  python -m experiments.report runs/digits
  python -m experiments.report mine.py

Of a RUN FOLDER of sine, hello, digits, charlm train, dynamics fixedpoints or dynamics training all networks are looked
at, on sequences of their own task. A Python FILE gives a network of your own; it is run, and of its names these are read:

  step      a jr.Cell, or a function (params, state, x) -> state
  params    its parameters, any pytree
  xs        the inputs (T, ...) of a sequence, any pytree of arrays; or a list of such sequences
  state     the first state; of a jr.Cell zeros, if it is left out
  loss, ys  a loss (params, state, y) -> scalar at one time, and its targets (T, ...); without them there is no gradient flow
  select    params -> those that step reads; all, if it is left out
  x         the input under which fixed points are sought; the mean of xs, if it is left out
  name      of the network
"""  # noqa: E501

EPILOG = f"""\
files in DIR:
  {PAGE}  one page, without anything outside of it: findings, gradient flow, Lyapunov spectrum, singular values of
               Jacobians over lag, fixed points, recurrent weights, course of training
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report; the exit status."""
    return _run.exit_status("report", lambda: _experiment(_parse(argv)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _run.parser("report", DESCRIPTION, EPILOG)
    parser.add_argument("path", type=_run.path, metavar="RUN_FOLDER | FILE.py", help="what to report on")
    what = "of the candidates for fixed points (default: 0)"
    parser.add_argument("--seed", type=_run.seed, default=0, metavar="S", help=what)
    output = parser.add_argument_group("output")
    what = "folder for the page (default: the run's own; runs/report for a file)"
    output.add_argument("--out", type=_run.folder_name, metavar="DIR", help=what)
    output.add_argument("--overwrite", action="store_true", help="replace an earlier report in DIR")
    return parser.parse_args(argv)


def _experiment(arguments: argparse.Namespace) -> int:
    path = pathlib.Path(arguments.path)
    subjects = runs.subjects(path) if path.is_dir() else [file.subject(path)]
    for subject in subjects:
        _check(subject)
    default = path if path.is_dir() else pathlib.Path("runs/report")
    with _run.output_folder(arguments.out or str(default), [PAGE], arguments.overwrite) as folder:
        measured = [measures.measure(subject, arguments.seed, _told(subject)) for subject in subjects]
        findings = [verdict.findings(each) for each in measured]
        with _run.replacing(folder / PAGE) as unfinished:
            unfinished.write_text(page.render(f"Report on {path.name}", measured, findings), encoding="utf-8")
        for subject, found in zip(subjects, findings, strict=True):
            print(f"\n{subject.name}:")
            for finding in found:
                print(f"  {finding.level:8} {finding.title}: {finding.text}")
        print(f"\n{folder / PAGE}")
    return 0


def _check(subject: Subject) -> None:
    try:
        check_finite(subject)
    except ValueError as error:
        raise _run.UserError(f"{subject.name}: {error}") from error
    measures.check_memory(subject)


def _told(subject: Subject) -> Callable[[str], None]:
    return lambda what: print(f"{subject.name}: {what} …", flush=True)


if __name__ == "__main__":
    sys.exit(main())
