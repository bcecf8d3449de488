"""The comparison as a table: Markdown for files and plain text for terminals, from the same
rows."""

from collections.abc import Sequence

import numpy as np

from eval.results import ContenderResult, Results
from eval.scores.scores import Reach, num_diverged, reach, speed_up
from eval.scores.spending import bytes_received, bytes_sent, gradients
from eval.scores.targets import BEST, Target, targets

NEVER = "-"
DIVERGED = "diverged"


def rows(results: Results) -> list[list[str]]:
    """Header and one row per contender."""
    goals = [target for name, target in targets(results).items() if name != BEST]
    metrics = metric_names(results)
    header = ["optimizer", "train loss", "valid loss", "test loss", *(f"test {name}" for name in metrics)]
    for goal in goals:
        header += [f"rounds to {goal.name} ({loss_text(float(goal.loss))})", "speed-up"]
    header += [f"kB to {goal.name}" for goal in goals[:1]]
    header += ["kB in all", "kB received", "gradients", "tuning runs", "diverged"]
    return [header, *(_row(contender, results, goals, metrics) for contender in results.contenders)]


def metric_names(results: Results) -> list[str]:
    """What the family reports besides the loss."""
    return [name for name in results.contenders[0].final["test"] if name != "loss"]


def markdown_table(results: Results) -> str:
    """The table and what its columns mean, as Markdown."""
    header, *body = rows(results)
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, rule, *body)]
    return "\n".join([*lines, "", *legend(results)]) + "\n"


def plain_table(results: Results) -> str:
    """The table in columns for a terminal, without the legend."""
    table = rows(results)
    # A header breaks into words, one per line: the numbers are narrow.
    headers = [cell.split(" ") for cell in table[0]]
    height = max(map(len, headers))
    headers = [[""] * (height - len(words)) + words for words in headers]
    lines = [*zip(*headers, strict=True), *table[1:]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table[0]))]
    text = [_aligned(line, widths) for line in lines]
    text.insert(height, "  ".join("-" * width for width in widths))
    return "\n".join(text) + "\n"


def legend(results: Results) -> list[str]:
    """The protocol in words, the tuned settings and the checkpoints, one Markdown line each."""
    p = results.protocol
    lines = [
        f"Task {p.task}, {p.num_rounds} rounds, K={p.num_workers} workers, H={p.num_local_steps} "
        f"local steps, batch {p.batch_size} per worker; mean +- half the range over {p.num_seeds} "
        f"seeds. Tuning: {p.tuning}. Hyper-parameters were chosen by the inner-validation loss (the column valid); the "
        "test split was read once, at the end. Rounds (earliest..latest seed) are the first after "
        f"which the seed-mean training loss on {p.num_curve_examples} fixed examples was at or below "
        f"the baseline's final one; {NEVER}: never. Speed-up: the baseline's own rounds to that "
        "loss over the contender's. kB: sent by one worker, or received by it; gradients: of minibatches, by all.",
        "",
    ]
    for contender in results.contenders:
        if contender.hparams:
            setting = ", ".join(f"{name} {value:g}" for name, value in contender.hparams.items())
            edge = "" if contender.tuning["interior"] else " (on the edge of its grid)"
            lines.append(f"- {contender.name}: {setting}{edge}")
        elif contender.kind == "learned":
            lines.append(f"- {contender.name}: {contender.details.get('checkpoint', 'made in Python')}, not tuned")
    return lines


def _row(contender: ContenderResult, results: Results, goals: Sequence[Target], metrics: Sequence[str]) -> list[str]:
    final = contender.final
    cells = [contender.name]
    cells += [_spread(final[split]["loss"]) for split in ("train", "inner_valid", "test")]
    for name in metrics:
        text = _spread(100 * final["test"][name], "{:.1f}") if name == "accuracy" else _spread(final["test"][name])
        cells.append(f"{text}%" if name == "accuracy" and text != DIVERGED else text)
    reached = [reach(contender.rounds, contender.train_loss, goal.loss) for goal in goals]
    for goal, found in zip(goals, reached, strict=True):
        ratio = speed_up(goal.rounds, found.rounds)
        cells += [_rounds(found), NEVER if ratio is None else f"{ratio:.2f}x"]
    sent, received = (np.mean(spent(contender), axis=0) / 1000 for spent in (bytes_sent, bytes_received))
    for found in reached[:1]:
        point = None if found.rounds is None else np.searchsorted(contender.rounds, found.rounds)
        cells.append(NEVER if point is None else f"{sent[point]:,.0f}")
    cells += [f"{sent[-1]:,.0f}", f"{received[-1]:,.0f}"]
    cells.append(f"{np.mean(gradients(contender, results.protocol)[:, -1]):,.0f}")
    cells += [str(contender.tuning["num_runs"]), str(num_diverged(final["train"]["loss"]))]
    return cells


def loss_text(value: float) -> str:
    """Three decimals; where these would show next to nothing, two significant digits."""
    return _form(value).format(value)


def _form(value: float) -> str:
    return "{:.1e}" if 0 < abs(value) < 0.01 else "{:.3f}"


def _spread(values: np.ndarray, form: str | None = None) -> str:
    finite = values[np.isfinite(values)]
    if finite.size < values.size:
        return DIVERGED
    mean, half = float(finite.mean()), float(finite.max() - finite.min()) / 2
    form = form or _form(mean)
    return form.format(mean) + (f" +-{form.format(half)}" if finite.size > 1 else "")


def _rounds(found: Reach) -> str:
    if found.rounds is None:
        return NEVER
    seeds = [rounds for rounds in found.per_seed if rounds is not None]
    if len(found.per_seed) < 2 or not seeds:
        return str(found.rounds)
    latest = max(seeds) if len(seeds) == len(found.per_seed) else "never"
    return f"{found.rounds} ({min(seeds)}..{latest})"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "  ".join([first, *rest]).rstrip()
