"""`python -m meta_train.search --run-dir runs/lagg_any`: searches the numbers of `lagg_any`; again to go on.

`--from-anchor --problems TASK,num_workers=4,...` searches them for problems of your own, from the hand-made rule.

Writes `generations.jsonl` (scores and the mean of the search), `lagg_any.safetensors` (that mean, averaged over the
last third of the generations) and `validation.json` (its scores on META_VALID). A score is the mean logarithm of
the rounds taken over those of the anchor, or, with one problem, the mean difference of log losses from the anchor's;
initial parameters and batches are the same, and every generation has new ones.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np
from cmaes import CMA

from eval.machine.command_line import fail, fail_in_user_code, parse_flags
from learned_opt.checkpoint import save
from meta_train.search import lagg_any
from meta_train.search.problems import META_TRAIN_PROBLEMS, META_VALID_PROBLEMS, Problem, problem_of
from meta_train.search.scores import Scores

VALID_SEEDS = [500_001, 500_002]


@dataclasses.dataclass(frozen=True)
class Search:
    """Searches the numbers of lagg_any by CMA-ES (Hansen 2016, arXiv 1604.00772).

    Attributes:
      run_dir: folder of the run.
      generations: how many; a larger number continues a run, 0 judges where the search begins.
      population: candidates per generation.
      sigma: first standard deviation, in units of the entries' scales.
      seed: of candidates, tasks, parameters and batches.
      from_anchor: begin with all numbers at zero, the hand-made rule, and not where earlier searches have ended.
      parts: into how many parts the problems are divided, of which each generation takes the next.
      problems: what to train, each TASK[,num_workers=8][,num_local_steps=4][,batch_size=16][,max_unroll_length=200];
        none: those of META_TRAIN, and META_VALID to validate on.
    """

    run_dir: Path = Path("runs/lagg_any")
    generations: int = 30
    population: int = 12
    sigma: float = 0.3
    seed: int = 0
    from_anchor: bool = False
    parts: int = 1
    problems: tuple[str, ...] = ()

    def trained(self) -> tuple[Problem, ...]:
        """What candidates are judged on."""
        return tuple(map(problem_of, self.problems)) or META_TRAIN_PROBLEMS

    def start(self) -> np.ndarray:
        """The first mean of the search, [D]."""
        start = lagg_any.start()
        return np.zeros_like(start) if self.from_anchor else start

    def validated(self) -> tuple[Problem, ...]:
        """What the result is judged on, with seeds of its own."""
        return tuple(map(problem_of, self.problems)) or META_VALID_PROBLEMS


def search(options: Search) -> None:
    """Runs the search, from the last whole generation on if the folder holds one.

    Raises:
      ValueError: settings that are no search, or a folder that holds a search with others.
    """
    check(options)
    log = options.run_dir / "generations.jsonl"
    found = CMA(options.start(), options.sigma, population_size=options.population, seed=options.seed)
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for row in rows:
        # The strategy is a function of its seed and what it was told.
        found.tell([(found.ask(), total) for total in row["totals"]])
    if len(rows) >= options.generations:
        export(options)
        return
    problems = options.trained()
    judge = Scores(problems)
    began = time.monotonic()
    for generation in range(len(rows), options.generations):
        candidates = np.stack([found.ask() for _ in range(options.population)])
        seeds = [options.seed * 100_000 + 1_000 + generation]
        part = problems[generation % options.parts :: options.parts]
        scores = judge(part, candidates, seeds)
        totals = np.mean(list(scores.values()), axis=0)
        found.tell(list(zip(candidates, totals.tolist(), strict=True)))
        row = {
            "generation": generation,
            "seconds": round(time.monotonic() - began, 1),
            "best": totals.min(),
            "mean": totals.mean(),
            "mean_of_search": found.mean.tolist(),
            "totals": totals.tolist(),
            "problems": {name: round(float(x.mean()), 4) for name, x in scores.items()},
        }
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"generation {generation}: best {totals.min():+.4f}, mean {totals.mean():+.4f}", flush=True)
    export(options)


def check(options: Search) -> None:
    """ValueError for settings out of range, and for those of a folder's earlier generations that differ."""
    if not 1 <= options.parts <= len(options.trained()):
        raise ValueError(f"parts={options.parts}: use 1 to {len(options.trained())}, the number of problems")
    if options.generations < 0 or options.population < 4 or not options.sigma > 0:
        raise ValueError(
            f"generations={options.generations}, population={options.population}, sigma={options.sigma:g}: use 0 "
            "generations or more, at least 4 candidates and a sigma above 0"
        )
    file = options.run_dir / "search.json"
    options.trained()  # refuses what is no problem
    now = {"population": options.population, "sigma": options.sigma, "seed": options.seed}
    now |= {"from_anchor": True} if options.from_anchor else {}
    now |= {"parts": options.parts} if options.parts > 1 else {}
    now |= {"problems": list(options.problems)} if options.problems else {}
    if file.exists() and (then := json.loads(file.read_text())) != now:
        raise ValueError(f"{options.run_dir} holds a search with {then}, not {now}: use another --run-dir")
    options.run_dir.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(now) + "\n")


def result(options: Search) -> tuple[np.ndarray, int]:
    """The result of the generations so far, [D], and their number: the noise of a generation moves the mean of the
    search, so it is averaged over the last third of them. Before the first it is where the search begins."""
    log = options.run_dir / "generations.jsonl"
    means = [json.loads(row)["mean_of_search"] for row in log.read_text().splitlines()] if log.exists() else []
    if not means:
        return options.start(), 0
    return np.mean(means[-max(1, len(means) // 3) :], axis=0), len(means)


def export(options: Search) -> None:
    """Writes the optimizer of the result."""
    candidate, generations = result(options)
    problems = options.trained()
    save(
        options.run_dir / "lagg_any.safetensors",
        lagg_any.LOPT,
        lagg_any.theta_of(candidate),
        local_opt=lagg_any.RECIPE,
        task=" + ".join(_families(problems)),
        num_workers=sorted({problem.num_workers for problem in problems}),
        num_local_steps=sorted({problem.num_local_steps for problem in problems}),
        batch_size=sorted({problem.batch_size for problem in problems}),
        search={
            "numbers": len(candidate),
            "generations": generations,
            "population": options.population,
            "sigma": options.sigma,
            "seed": options.seed,
        },
    )


def _families(problems: tuple[Problem, ...]) -> list[str]:
    """The references of the families; several that differ in their arguments as one, with their number."""
    by_name: dict[str, list[str]] = {}
    for reference in dict.fromkeys(problem.family for problem in problems):
        by_name.setdefault(reference.partition(",")[0], []).append(reference)
    return [own[0] if len(own) == 1 else f"{name} ({len(own)} of its problems)" for name, own in by_name.items()]


def validate(options: Search) -> dict[str, float]:
    """Scores of the result on the problems to validate on, and their mean."""
    problems = options.validated()
    found = Scores(problems)(problems, result(options)[0][None], VALID_SEEDS)
    scores = {name: float(x[0]) for name, x in found.items()}
    for name, x in scores.items():
        print(f"{name}: {x:+.4f}")
    scores["mean"] = float(np.mean(list(scores.values())))
    (options.run_dir / "validation.json").write_text(json.dumps(scores, indent=2) + "\n")
    return scores


def main(arguments: list[str]) -> int:
    """The command; returns its exit code."""
    program = "python -m meta_train.search"
    try:
        options = parse_flags(Search(), program, Search.__doc__, arguments)
        search(options)
        print(f"mean on validation: {validate(options)['mean']:+.4f}")
    except (ValueError, FileNotFoundError) as error:
        return fail_in_user_code(program, error) or fail(program, error, 2)
    except Exception as error:
        code = fail_in_user_code(program, error)
        if code is None:
            raise
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
