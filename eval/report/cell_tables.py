"""Tables of single comparisons: how good and how soon, at what price, and along an axis."""

from eval.report.tables import NEVER, Table, budget, contender_names, interval, number, whole
from eval.results import ContenderResult, Results
from eval.scores.measures import measures
from eval.scores.network import Network
from eval.scores.rivals import speed_up_scores, target_setter
from eval.scores.statistics import bootstrap, iqm
from eval.scores.targets import BEST, DILOCO, LOCAL_SGD, TARGETS, targets
from eval.sweep.sweep import Sweep


def cell_table(cell: str, results: Results) -> Table:
    """Losses and speed-ups of one comparison, one row per contender."""
    everyone = measures(results)
    goals = targets(results)
    metrics = [metric for metric in everyone[0].final["test"] if metric != "loss"]
    header = ["optimizer", "train loss", "valid loss", "test loss", *(f"test {metric}" for metric in metrics)]
    for name, target in goals.items():
        label = f"{TARGETS[name]} ({target.setter.name})" if name == BEST else TARGETS[name]
        header += [f"rounds to {label} {target.loss:.4g}", "speed-up"]
    rows = [[*header, "diverged"]]
    for m in everyone:
        row = [m.name, *(number(m.final[split]["loss"], 4) for split in ("train", "inner_valid", "test"))]
        row += [number(m.final["test"][metric], 4) for metric in metrics]
        for target in goals:
            cost = m.to_target[target]
            row += [whole(cost.rounds), NEVER if cost.speed_up is None else f"{cost.speed_up:.2f}"]
        rows.append([*row, f"{100 * m.diverged:.0f}%"])
    note = (
        f"Means over {results.protocol.num_seeds} seeds. Rounds and speed-ups are read off the seed-mean training "
        "curve; the table over all cells takes the seeds one by one."
    )
    return Table(f"cell_{cell}", cell, note, rows)


def price_table(cell: str, results: Results, network: Network) -> Table:
    """Costs to the first target, settings and tuning budgets of one comparison, one row per contender."""
    goal = next(iter(targets(results)), None)
    rows = [["optimizer", "gradients", "kB sent", "kB received", "simulated s", "setting", "tuning runs", "tuning s"]]
    for contender, m in zip(results.contenders, measures(results, network), strict=True):
        cost = None if goal is None else m.to_target[goal]
        rows.append(
            [
                m.name,
                whole(cost.gradients if cost else None),
                NEVER if cost is None or cost.bytes is None else f"{cost.bytes / 1000:.0f}",
                NEVER if cost is None or cost.received is None else f"{cost.received / 1000:.0f}",
                NEVER if cost is None or cost.seconds is None else f"{cost.seconds:.1f}",
                setting(contender),
                *budget(contender),
            ]
        )
    note = (
        f"Gradients (minibatch gradients of all workers), kB (of one worker) and simulated seconds are to the "
        f"target {TARGETS[goal] if goal else '(none)'}. A setting marked edge has untried neighbours beyond its grid."
    )
    return Table(f"price_{cell}", f"{cell}: price and settings", note, rows)


def setting(contender: ContenderResult) -> str:
    """The hyper-parameters of a contender in words."""
    if contender.kind == "anchor":
        return str(contender.details.get("recipe", "not tuned"))
    if not contender.hparams:
        return "not tuned"
    text = ", ".join(f"{name} {value:g}" for name, value in contender.hparams.items())
    if "one_setting" in contender.details:
        return f"{text} (one for all cells)"
    return text + ("" if contender.tuning["interior"] else " (edge)")


def axis_table(sweep: Sweep) -> Table:
    """One row per contender and value of an axis sweep."""
    rows = [["optimizer", sweep.plan.label or sweep.plan.name, "speed-up over Local SGD, IQM (95%)"]]
    rows[0] += ["speed-up over DiLoCo, IQM (95%)", "test loss", "diverged runs"]
    for name in contender_names(list(sweep.finished.values())):
        for cell in sweep.plan.cells:
            results = sweep.finished.get(cell.name)
            found = [m for m in measures(results) if m.name == name] if results is not None else []
            if results is None or not found:
                continue
            row = [name, f"{cell.value:g}"]
            for target in (LOCAL_SGD, DILOCO):
                scores = speed_up_scores([results], name, target_setter(target))
                row.append(interval(bootstrap(iqm, scores, resample_tasks=False) if scores.size else None))
            rows.append([*row, number(found[0].final["test"]["loss"], 4), f"{100 * found[0].diverged:.0f}%"])
    note = "Everyone was tuned anew at every value. The interval draws the seeds of the value again."
    return Table(f"axis_{sweep.plan.name}", f"Along the axis {sweep.plan.name}", note, rows)
