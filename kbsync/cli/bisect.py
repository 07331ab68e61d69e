"""``kbsync bisect``: find the edits that break a canary or a bound, and go on without them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from kbsync.cli.choices import CorpusOption, ModelOption, RelationsOption, SetOption, YesOption, parse_values
from kbsync.cli.judging import NO_JUDGING, Judging
from kbsync.cli.options import Options, command, family
from kbsync.report.apply import bisected_view, found_table
from kbsync.report.console import emit, log_console
from kbsync.report.progress import progress
from kbsync.sync.home import AS_STORED, Loading

if TYPE_CHECKING:
    from kbsync.sync.bisect import Found

app = family()


@command(app, "bisect", examples=("kbsync bisect --model practice --canaries canaries.yaml",))
def bisect(
    options: Options,
    model: ModelOption,
    relation: RelationsOption = None,
    setting: SetOption = None,
    corpus: CorpusOption = None,
    judging: Judging = NO_JUDGING,
    yes: YesOption = False,
    loading: Loading = AS_STORED,
) -> None:
    """Find the edits that break a canary or a bound, keep them out with the reason on record, and apply the rest.

    Takes what `kbsync apply` would write and halves it, relations first and then facts. Each step solves again from
    target vectors in the cache, so that nothing is searched anew. `kbsync retract --undo` lets a fact in again.
    """
    from kbsync.sync.apply import ApplyOptions
    from kbsync.sync.bisect import bisect as workflow

    wanted = ApplyOptions(
        model, relation, values=parse_values(setting), loading=loading, corpus=corpus, **judging.as_options()
    )
    with progress(quiet=options.json, verbose=options.verbose) as report:

        def confirm(found: "Sequence[Found]") -> bool:
            report.pause()
            if not options.json:
                log_console().print(found_table(found))
            return yes or typer.confirm("Keep these out, and apply the rest?", default=True, err=True)

        done = workflow(options.home, wanted, confirm, report, report.remark)
    emit(done, bisected_view, as_json=options.json)
