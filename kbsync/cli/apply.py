"""``kbsync apply``: write the plan into the model; ``bisect``: find the edits that break a bound, and go on without."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kbsync.cli.choices import (
    NO_JUDGING,
    CorpusOption,
    IncludeKnownOption,
    InverseOption,
    Judging,
    ModelOption,
    OnConflictOption,
    RelationsOption,
    SetOption,
    YesOption,
    option,
    parse_values,
)
from kbsync.cli.options import Options, command, family
from kbsync.report.apply import applied_view, bisected_view, cost_view, found_table, plan_view
from kbsync.report.console import emit, progress, tell
from kbsync.sync.home import AS_STORED, Loading

if TYPE_CHECKING:
    from kbsync.sync.apply import ApplyOptions, Proposal
    from kbsync.sync.bisect import Found


app = family()

EXAMPLES = (
    "kbsync apply --model practice",
    "kbsync apply --model practice --retry",
    "kbsync apply --model practice --compile-inverse",
    "kbsync apply --model practice --algorithm rome --set layer=1",
    "kbsync apply --model gpt-j --relation P35 --corpus text.txt --set steps=30 --yes",
)


LimitOption = Annotated[int | None, option("--limit N", "Edit at most N new or changed facts.", min=1)]
RetryOption = Annotated[bool, option("--retry", "Give edits that are not recalled (x) more steps and a larger clamp.")]
OnlyLostOption = Annotated[
    bool, option("--only-lost", "Edit only what other models here were edited for and this one does not hold.")
]
AlgorithmOption = Annotated[str, option("--algorithm A", "memit, or a baseline such as rome, with its own --set.")]
ChatOption = Annotated[
    bool, option("--chat", "Measure recall of the question forms in the model's chat template, too.")
]
ForceOption = Annotated[
    bool, option("--force", "Make the result current even if it breaks a bound; the batch records that.")
]


@command(app, "apply", examples=EXAMPLES)
def apply(
    options: Options,
    model: ModelOption,
    relation: RelationsOption = None,
    limit: LimitOption = None,
    include_known: IncludeKnownOption = False,
    compile_inverse: InverseOption = None,
    retry: RetryOption = False,
    only_lost: OnlyLostOption = False,
    on_conflict: OnConflictOption = "out",
    algorithm: AlgorithmOption = "memit",
    setting: SetOption = None,
    corpus: CorpusOption = None,
    chat: ChatOption = False,
    judging: Judging = NO_JUDGING,
    force: ForceOption = False,
    yes: YesOption = False,
    loading: Loading = AS_STORED,
) -> None:
    """Write new and changed facts into the model with MEMIT (or a baseline), and take withdrawn ones out.

    The base weights are never changed: each apply makes the edited state anew from them, for all active facts.
    Shows the plan and asks before it writes. A result that breaks a bound is not made current: the state before stays,
    and the batch is on record as failed, with its figures. Under `accelerate launch -m kbsync apply ...` the work is
    shared out over its processes.
    """
    from kbsync.sync.rollback import rollbacks_so_far

    rollbacks = rollbacks_so_far(options.home)  # before the imports below, which take seconds
    from kbsync.sync.apply import ApplyOptions

    wanted = ApplyOptions(
        model,
        relation,
        limit,
        include_known,
        on_conflict,
        compile_inverse,
        parse_values(setting),
        loading,
        corpus,
        chat=chat,
        **judging,
        force=force,
        retry=retry,
        algorithm=algorithm,
        only_lost=only_lost,
        rollbacks=rollbacks,
    )
    run(options, wanted, yes)


def run(options: Options, wanted: "ApplyOptions", yes: bool) -> None:
    """Apply, or do this process's share of it; `yes` asks nothing."""
    from kbsync.sync.apply import apply as workflow
    from kbsync.sync.model import join_team, work_along

    team = join_team()
    if not team.leads:
        work_along(team, options.home, wanted.model, wanted.loading)
        return
    with progress(quiet=options.json, verbose=options.verbose) as report:

        def confirm(proposal: "Proposal") -> bool:
            report.pause()
            if proposal.remark is not None:
                tell(proposal.remark)
            if not options.json:
                tell(plan_view(proposal.plan))
                if proposal.needed:
                    tell(cost_view(proposal.cost))
            return yes or not proposal.needed or typer.confirm("Write this into the model?", default=True, err=True)

        applied = workflow(options.home, wanted, confirm, report, report.remark, team)
    if applied is None:
        tell("nothing was written")
        raise typer.Exit(1)
    emit(applied, applied_view, as_json=options.json)


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

    wanted = ApplyOptions(model, relation, values=parse_values(setting), loading=loading, corpus=corpus, **judging)
    with progress(quiet=options.json, verbose=options.verbose) as report:

        def confirm(found: "Sequence[Found]") -> bool:
            report.pause()
            if not options.json:
                tell(found_table(found))
            return yes or typer.confirm("Keep these out, and apply the rest?", default=True, err=True)

        done = workflow(options.home, wanted, confirm, report, report.remark)
    emit(done, bisected_view, as_json=options.json)
