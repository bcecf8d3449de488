"""What communication costs: a table of every contender's round, and losses against bytes and simulated seconds."""

from eval.report import curve_panels
from eval.report.tables import NEVER, Table
from eval.results import Results
from eval.scores.network import Network
from eval.scores.spending import bytes_sent, seconds


def traffic_table(cells: dict[str, Results]) -> Table:
    """Bytes, gradients and state of a round, one row per cell and contender."""
    rows = [["cell", "optimizer", "kB sent", "kB received", "kB at once", "gradients", "state B a parameter"]]
    for cell, results in cells.items():
        for c in results.contenders:
            received, peak, gradients, state = (
                c.cost.get(field)
                for field in ("bytes_received", "peak_bytes", "gradients", "state_bytes_per_parameter")
            )
            rows.append(
                [
                    cell,
                    c.name,
                    f"{c.bytes_per_round / 1000:.4g}" + (" each time" if "communications" in c.counts else ""),
                    NEVER if received is None else f"{received / 1000:.4g}",
                    NEVER if peak is None else f"{peak / 1000:.4g}",
                    NEVER
                    if gradients is None
                    else f"{gradients:.4g}" + (" or fewer" if "num_local_steps" in c.counts else ""),
                    NEVER if state is None else f"{state:.3g}",
                ]
            )
    note = (
        "Of one worker and round, encoded messages. Received: a dense mean from a server, or all others' messages "
        "where these are shorter; neighbours' models in gossip. Gradients: of minibatches. State: kept between rounds "
        "beside one copy of the parameters."
    )
    return Table("traffic", "What a round costs a worker", note, rows)


def spending_curves(cells: dict[str, Results], network: Network) -> tuple[tuple[str, str], ...]:
    """Captions and figures; none where all send the same and take as long, so that rounds tell everything."""
    figures = []
    megabytes = "megabytes sent by a worker"
    if any(_differ(results, lambda c, p: bytes_sent(c)) for results in cells.values()):
        figure = curve_panels.spending_curves(cells, lambda c, p: bytes_sent(c) / 1e6, megabytes)
        figures.append((f"Training loss against {megabytes}", figure))
    if any(_differ(results, lambda c, p: seconds(c, p, network)) for results in cells.values()):
        figure = curve_panels.spending_curves(cells, lambda c, p: seconds(c, p, network), "simulated seconds")
        figures.append(("Training loss against simulated seconds", figure))
    return tuple(figures)


def _differ(results: Results, spent: curve_panels.Spent) -> bool:
    """Whether contenders spend differently, by more than rounding."""
    totals = [float(spent(c, results.protocol)[:, -1].mean()) for c in results.contenders]
    return max(totals) > 1.001 * min(totals)


def loss_against_bytes(results: Results) -> str:
    """The figure of one comparison: training loss against what a worker had sent."""
    cells = {results.protocol.task: results}
    return curve_panels.spending_curves(cells, lambda c, p: bytes_sent(c) / 1e6, "megabytes sent by a worker")
