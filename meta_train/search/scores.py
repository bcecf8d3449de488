"""Scores of candidates on many problems, by programs that are compiled once: in this process, or in several."""

import math
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np

from meta_train.search import lagg_any
from meta_train.search.curves import Curves, build_curves, score_by_loss, score_by_rounds
from meta_train.search.problems import Problem

PROBLEMS_PER_PROCESS = 40
"""Linux lets a process map 65,530 pieces of memory, and the two programs of a problem take about 1,400."""
Programs = dict[Problem, list[Curves]]
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
_programs: Programs = {}
"""Of a process that was started for some of the problems."""


class Scores:
    """Scores of candidates; problems are built, and refused, at once.

    They are of rounds, which weigh problems alike; of losses where there is one problem only.

    Args:
      problems: what the candidates are judged on.

    Raises:
      ValueError, FileNotFoundError: as `build_curves`.
    """

    def __init__(self, problems: tuple[Problem, ...]):
        self._score: Score = score_by_rounds if len(problems) > 1 else score_by_loss
        self._groups = max(1, math.ceil(len(problems) / PROBLEMS_PER_PROCESS))
        self._group_of = {problem: i % self._groups for i, problem in enumerate(problems)}
        self._processes: list[ProcessPoolExecutor] = []
        self._programs: Programs = {}
        if self._groups == 1:
            self._programs = programs_of(problems)
            return
        context = multiprocessing.get_context("spawn")
        for group in range(self._groups):
            own = tuple(problem for problem in problems if self._group_of[problem] == group)
            self._processes.append(ProcessPoolExecutor(1, context, _begin, (own,)))

    def __call__(
        self, problems: tuple[Problem, ...], candidates: np.ndarray, seeds: list[int]
    ) -> dict[str, np.ndarray]:
        """Scores [P] of candidates [P, D] on some of the problems, by their names."""
        if not self._processes:
            found = scores_of(self._programs, problems, candidates, seeds, os.cpu_count() or 1, self._score)
            return {problem.full_name: found[problem] for problem in problems}
        threads = max(1, (os.cpu_count() or 1) // self._groups)
        jobs = []
        for group, process in enumerate(self._processes):
            own = tuple(problem for problem in problems if self._group_of[problem] == group)
            jobs.append(process.submit(_judge, own, candidates, seeds, threads, self._score))
        found = {problem: scores for job in jobs for problem, scores in job.result().items()}
        return {problem.full_name: found[problem] for problem in problems}


def programs_of(problems: tuple[Problem, ...]) -> Programs:
    """The measurements of candidates and of their anchor."""
    return {problem: build_curves(problem, lagg_any.algorithm, lagg_any.anchor) for problem in problems}


def scores_of(
    programs: Programs,
    problems: tuple[Problem, ...],
    candidates: np.ndarray,
    seeds: list[int],
    threads: int,
    score: Score,
) -> dict[Problem, np.ndarray]:
    """Scores [P] of every problem; several problems at a time, as a small training fills one core."""

    def scored(problem: Problem) -> np.ndarray:
        curves, reference = programs[problem]
        return score(curves(candidates, seeds), reference(np.zeros((1, 1)), seeds)).mean(axis=-1)

    with ThreadPoolExecutor(threads) as pool:
        return dict(zip(problems, pool.map(scored, problems), strict=True))


def _begin(problems: tuple[Problem, ...]) -> None:
    _programs.update(programs_of(problems))


def _judge(
    problems: tuple[Problem, ...], candidates: np.ndarray, seeds: list[int], threads: int, score: Score
) -> dict[Problem, np.ndarray]:
    return scores_of(_programs, problems, candidates, seeds, threads, score)
