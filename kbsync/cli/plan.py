"""``kbsync plan``: the diff between knowledge base, ledger and model."""

from kbsync.cli.choices import (
    CheckOption,
    ConflictPolicy,
    IncludeKnownOption,
    InverseOption,
    ModelOption,
    OnConflictOption,
    ProbeOption,
    RelationsOption,
)
from kbsync.cli.options import Options, command, family, leave
from kbsync.report.console import show
from kbsync.report.plan import plan_json, plan_view
from kbsync.report.progress import progress
from kbsync.sync.home import AS_STORED, Loading

app = family()


@command(app, "plan", examples=("kbsync plan --model practice", "kbsync plan --model gpt-j --relation P35 --probe"))
def plan(
    options: Options,
    model: ModelOption,
    relation: RelationsOption = None,
    on_conflict: OnConflictOption = ConflictPolicy.out,
    include_known: IncludeKnownOption = False,
    compile_inverse: InverseOption = None,
    probe: ProbeOption = False,
    check: CheckOption = False,
    loading: Loading = AS_STORED,
) -> None:
    """Show what an apply would do, and why. Writes no weights."""
    from kbsync.sync.home import model_name
    from kbsync.sync.status import diff_for

    if probe:
        from kbsync.sync.answers import probed_plan

        with progress(quiet=options.json) as report:
            result = probed_plan(
                options.home,
                model,
                relation,
                on_conflict.value,
                include_known=include_known,
                inverse=compile_inverse,
                loading=loading,
                progress=report,
            )
        show(result, plan_view, plan_json, as_json=options.json)
        leave(result.in_sync, check)
        return
    name = model_name(model, options.home)
    asked = (include_known, compile_inverse)
    with diff_for(options.home, name, relation, on_conflict.value, *asked, whole=options.json) as found:
        show(found, plan_view, plan_json, as_json=options.json)
        leave(found.in_sync, check)
