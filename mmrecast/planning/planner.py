"""From a budget to a recipe: candidates, costs and prices put together, the choice measured and corrected."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from mmrecast.analysis.complexity import convention_for, count
from mmrecast.analysis.latency_settings import LatencySettings
from mmrecast.planning.budgets import TOLERANCE, amount, budgets_of, check_budgets, excess
from mmrecast.planning.candidates import RATIOS, TARGETS, candidates_of
from mmrecast.planning.choice import Choice, Option, best, cheapest, choose
from mmrecast.planning.costs import counted, options_of, recipe_of, student_of, time_choices, time_networks
from mmrecast.planning.latencies import latencies_of
from mmrecast.planning.prices import EXACT, PriceList, divergence
from mmrecast.planning.trained import Trained, TrainedCandidates, recasting_of, repriced
from mmrecast.stages import Stage
from mmrecast.surgery.chain import Shape, find_chain
from mmrecast.surgery.plan import make_plan
from mmrecast.utils.modules import untouched

CORRECTIONS = 5  # choices for a budget, which is moved where what was chosen is not as fast as predicted
SLACK = 0.05  # of a latency: what is faster than asked for by more is chosen again
COUNTED = ('max_params', 'max_mults', 'max_acts')
APART = 2  # blocks in which the plans that are ranked differ from one another
ROUNDS = 4  # times that what was chosen is trained alone, and the choice made again


@dataclass(frozen=True)
class Planned:
    """A plan for a budget.

    Args:
        choice (Choice): One candidate per block.
        recipe (list[dict]): The rules that make it; empty where every block is kept.
        predicted_ms (float): Of the whole network, from the sum over its blocks.
        measured_ms, speedup (float): Measured beside the teacher; the speed-up is the median over rounds.
        params, mults, acts (int): Counted on the whole network.
        loss (float, optional): KL(teacher ‖ student) in nats per image with all blocks in place by their closed form,
            if the plan was ranked.
        over (Mapping[str, float]): What it takes over its budget, by kind of cost, where that is exceeded.
    """

    choice: Choice
    recipe: list[dict]
    predicted_ms: float
    measured_ms: float
    speedup: float
    params: int
    mults: int
    acts: int
    loss: float | None = None
    over: Mapping[str, float] = field(default_factory=dict)

    @property
    def price(self) -> float:
        """float: The predicted loss, in nats per image: the sum of the blocks' prices."""
        return self.choice.price


class Planner:
    """Plans for one teacher on one device.

    Args:
        teacher (nn.Module): The trained network, images (N, C, H, W) → logits; it is not changed.
        input_shape (tuple[int]): (C, H, W).
        images, judged (Sequence[Tensor]): See :class:`PriceList`.
        targets, ratios, keep, blocks: See `candidates_of`.
        cache (str, optional): Folder for prices and latencies. Defaults to None: nowhere.
        measure (bool): Whether latencies that are kept there are measured again. Defaults to False.
        trained_on (Sequence[Tensor]): Batches that what is chosen is trained on alone, see
            :class:`TrainedCandidates`; it needs a ``cache``. Defaults to none: closed forms alone.
        block_loss (Mapping): For that. Defaults to ``MSELoss``.
        jobs (int): Processes that share the work of prices (where there is a cache) and of that. Defaults to 1.
        batch_size, repeats, warmup (int), settings (LatencySettings): How latency is measured, see `costs_of`.
        told (Callable): Gets lines on the progress. Defaults to nothing.

    Raises:
        ValueError, KeyError: As `candidates_of`, `costs_of` and `calibrate`.
    """

    def __init__(
        self,
        teacher: nn.Module,
        input_shape: Shape,
        images: Sequence[Tensor],
        judged: Sequence[Tensor],
        targets: Sequence[dict | str] = TARGETS,
        ratios: Sequence[float] = RATIOS,
        keep: bool = True,
        blocks: Sequence[str] = (),
        cache: str | None = None,
        measure: bool = False,
        trained_on: Sequence[Tensor] = (),
        block_loss: Mapping = dict(type='MSELoss'),
        jobs: int = 1,
        batch_size: int = 1,
        repeats: int = 20,
        warmup: int = 5,
        settings: LatencySettings | None = None,
        told: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.teacher, self.input_shape, self.told = teacher, tuple(input_shape), told
        self.images, self.judged = list(images), list(judged)
        self.measuring = dict(batch_size=batch_size, repeats=repeats, warmup=warmup, settings=settings)
        self.chain = find_chain(teacher, self.input_shape, tuple(blocks))
        self.candidates = candidates_of(teacher, self.input_shape, targets, ratios, keep, blocks)
        told(f'{sum(map(len, self.candidates))} candidates for {len(self.candidates)} blocks')
        found = latencies_of(teacher, self.chain, self.candidates, cache, measure, told, **self.measuring)
        self.teacher_ms, self.line = found.teacher_ms, found.line
        self._costs = found.costs
        self._unpriced = options_of(self.candidates, found.costs, [[0.0] * len(own) for own in self.candidates])
        self.prices, self.jobs = PriceList(teacher, self.chain, self.images, self.judged, cache), jobs
        self.trained = TrainedCandidates(self.prices, trained_on, block_loss) if len(trained_on) else None
        self._options: list[list[Option]] | None = None

    @property
    def options(self) -> list[list[Option]]:
        """list[list[Option]]: Per block what it may become, with its price; what is not in the cache is priced first.

        Raises:
            ValueError: No candidate of a block has a price.
        """
        if self._options is None:
            prices = self.prices.all(self.candidates, self.jobs, self.told)
            for block, own in zip(self.chain.blocks, prices, strict=True):
                if all(price is None for price in own):
                    raise ValueError(
                        f'no candidate of block {block.path!r} has a closed form that could price it: keep it'
                    )
            prices = [self._without_copies(i, self._costs[i], own) for i, own in enumerate(prices)]
            self._options = self._solved = options_of(self.candidates, self._costs, prices)
            if self.trained is not None:
                self._options = repriced(self._solved, self.trained)
        return self._options

    def plan(
        self,
        speedup: float | None = None,
        latency_ms: float | None = None,
        max_params: int | None = None,
        max_mults: int | None = None,
        max_acts: int | None = None,
        ranked: int = 1,
    ) -> Planned:
        """Return the plan that should lose least within every budget that is given.

        Args:
            speedup (float, optional): How many times as fast as the teacher, at least.
            latency_ms (float, optional): Milliseconds of a batch, at most.
            max_params, max_mults, max_acts (int, optional): Of the whole network, as the complexity tool counts them.
            ranked (int): How many plans are put together by their closed form and compared on the judged images.
                Defaults to 1: the first is taken.

        Raises:
            ValueError: There is no budget or a wrong one, the teacher is within it, or nothing reaches it (the message
                says what can be reached).
        """
        budgets = self._checked(speedup, latency_ms, max_params, max_mults, max_acts)
        within: dict[tuple[int, ...], Planned] = {}
        seen: set[tuple[int, ...]] = set()
        moved = dict(budgets)
        for _ in range(CORRECTIONS):
            choices = self._best(self._of_blocks(moved), max(ranked, 1))
            if not choices and not within:
                return self._cheapest_within(budgets)
            if not choices or choices[0].positions in seen:
                break
            seen.add(choices[0].positions)
            plans = [self.measured(choice) for choice in choices]
            plans = [replace(plan, over=excess(self._taken(plan), budgets)) for plan in plans]
            within |= {plan.choice.positions: plan for plan in plans if not plan.over and plan.recipe}
            changed = self._moved(moved, plans[0], budgets)
            if changed is None:
                break
            moved = changed
        if not within:
            return plans[0]
        as_priced_now = [replace(plan, choice=self._choice_at(plan.choice.positions)) for plan in within.values()]
        best_few = sorted(as_priced_now, key=lambda plan: plan.price)[: max(ranked, 1)]
        if len(best_few) > 1:
            best_few = [replace(plan, loss=self.judge(self.put_together(plan.recipe))) for plan in best_few]
            best_few.sort(key=lambda plan: plan.loss)
        return best_few[0]

    def frontier(self, points: int = 10) -> list[tuple[float, float, Choice]]:
        """Return (predicted ms, predicted loss, choice) for budgets from the teacher's latency down to the fastest."""
        dearest = sum(max(option.costs['ms'] for option in own) for own in self.options)
        low, high = self.fastest_ms, min(self.teacher_ms, self.line.whole(dearest))
        found = []
        for i in range(points):
            budget = high * (low / high) ** (i / max(points - 1, 1))
            choice = choose(self.options, dict(ms=self.line.blocks(budget) + 1e-9))
            if choice is not None:
                found.append((self.line.whole(choice.cost('ms')), choice.price, choice))
        return found

    def weighed(self, choice: Choice) -> tuple[float, float]:
        """Return (predicted ms, predicted loss) of a choice, such as that of a recipe made by hand."""
        return self.line.whole(choice.cost('ms')), choice.price

    def choice_of(self, recipe: Sequence[Mapping]) -> Choice:
        """Return the choice that a recipe makes, so that it can be weighed like the planner's own.

        Raises:
            ValueError, KeyError: It cannot be carried out on this teacher, or makes what is no candidate.
        """
        entries = make_plan(self.teacher, [dict(rule) for rule in recipe], self.input_shape, self.chain).entries
        positions = []
        for own, entry in zip(self.options, entries, strict=True):
            wanted = (entry.target and dict(entry.target), entry.in_channels, entry.out_channels)
            made = [(o.what.target and dict(o.what.target), o.what.in_channels, o.what.out_channels) for o in own]
            if wanted not in made:
                what = 'kept' if entry.target is None else entry.target['type']
                widths = f'{entry.in_channels}→{entry.out_channels}'
                raise ValueError(f'{entry.path!r} as the recipe has it ({what} {widths}) is none of the candidates')
            positions.append(made.index(wanted))
        return self._choice_at(positions)

    def _choice_at(self, positions: Sequence[int]) -> Choice:
        return Choice(tuple(own[j] for own, j in zip(self.options, positions, strict=True)), tuple(positions))

    @property
    def fastest_ms(self) -> float:
        """float: What the fastest plan is predicted to take."""
        return self.line.whole(cheapest(self.options, 'ms').cost('ms'))

    def put_together(self, recipe: Sequence[Mapping]) -> nn.Module:
        """Return the student of a recipe that has nothing but its closed form; of no rules, the teacher itself."""
        if not recipe:
            return self.teacher
        algorithm = recasting_of(self.teacher, self.input_shape, recipe, self.images, self.prices.ridge)
        for stage in algorithm.expand([Stage('recast', iters=0, blocks='all')]):
            algorithm.begin_stage(stage, [dict(inputs=x) for x in self.images])
        return algorithm.student

    @torch.no_grad()
    def judge(self, student: nn.Module) -> float:
        """Return KL(teacher ‖ student) in nats per judged image."""
        with untouched(student):
            return divergence(lambda x: (student(x), self.teacher(x)), self.judged)

    def trained_alone(self, option: Option) -> Trained | None:
        """Return what training alone made of an option, with the teacher's width at its input; None if it was not."""
        if self.trained is None or option.what.target is None:
            return None
        return self.trained.known(self.chain.paths.index(option.what.path), option.what)

    def start_of(self, option: Option) -> Trained | None:
        """Return what was trained alone and serves as the option's start: its width at the input is the teacher's."""
        full = self.chain.blocks[self.chain.paths.index(option.what.path)].in_shape[0]
        return self.trained_alone(option) if option.what.in_channels == full else None

    def _without_copies(
        self, i: int, costs: Sequence[Mapping[str, float]], prices: Sequence[float | None]
    ) -> list[float | None]:
        """Take the price from a target that is block ``i`` again: as many weights, as much to compute, no error.

        What would choose between the two is how their latencies happened to be measured.
        """
        candidates = self.candidates[i]
        sizes = [
            (c.in_channels, c.out_channels, cost['params'], cost['mults'])
            for c, cost in zip(candidates, costs, strict=True)
        ]
        kept = {size for c, size in zip(candidates, sizes, strict=True) if c.target is None}
        return [
            None if c.target is not None and size in kept and price and self.prices.error(i, c) <= EXACT else price
            for c, size, price in zip(candidates, sizes, prices, strict=True)
        ]

    # ---- candidates that are trained --------------------------------------------------------------------------------

    def _best(self, budgets: Mapping[str, float], count: int) -> list[Choice]:
        """Return the best choices; what they take is trained alone first, as far as rounds go."""
        choices = best(self.options, budgets, count, APART)
        for _ in range(ROUNDS if self.trained is not None else 0):
            wanted = [
                (i, option.what)
                for choice in choices
                for i, option in enumerate(choice.options)
                if option.what.target is not None and self.trained.known(i, option.what) is None
            ]
            if not wanted:
                break
            self.trained.train(wanted, self.jobs, self.told)
            self._options = repriced(self._solved, self.trained)
            choices = best(self.options, budgets, count, APART)
        return choices

    # ---- budgets ----------------------------------------------------------------------------------------------------

    def _checked(self, speedup: float | None, latency_ms: float | None, *counts: int | None) -> dict[str, float]:
        """Return the budgets, a latency in milliseconds of when the candidates were measured.

        Raises:
            ValueError: There is none, the teacher is within them, or what takes least is not.
        """
        check_budgets(speedup=speedup, latency_ms=latency_ms, **dict(zip(COUNTED, counts, strict=True)))
        if latency_ms is not None:
            ((now, _),) = time_networks([lambda: self.teacher], self.teacher, self.input_shape, **self.measuring)
            if abs(now / self.teacher_ms - 1) > TOLERANCE['ms']:
                self.told(f'the teacher takes {now:.3g} ms now, {self.teacher_ms:.3g} ms when candidates were measured')
                latency_ms *= self.teacher_ms / now
        teacher = dict(ms=self.teacher_ms) | self._counts(self.teacher)
        budgets = budgets_of(teacher, speedup, latency_ms, *counts)
        if choose(self._unpriced, self._of_blocks(budgets)) is None:
            least = {kind: self._taken(self.measured(cheapest(self._unpriced, kind))) for kind in budgets}
            if all(excess(taken, budgets) for taken in least.values()):
                raise ValueError(self._unreachable(budgets, least))
        return budgets

    def _moved(self, moved: dict[str, float], plan: Planned, budgets: Mapping[str, float]) -> dict[str, float] | None:
        """Return the budgets to choose by again: tighter where a plan is over, wider where it is faster than need be.

        None where it is right.
        """
        if not plan.over and not plan.recipe:  # a copy of the teacher that happened to be measured as faster
            return {kind: budget / (1 + SLACK) for kind, budget in moved.items()}
        if plan.over:
            self.told(f'the choice is over budget by {max(plan.over.values()) - 1:.1%}: chosen again')
            return {kind: budget / plan.over.get(kind, 1.0) for kind, budget in moved.items()}
        slack = budgets['ms'] / self._taken(plan)['ms'] if 'ms' in budgets else 1.0
        if slack > 1 + SLACK:
            self.told(f'the choice is faster than asked for by {slack - 1:.1%}: chosen again')
            return moved | dict(ms=moved['ms'] * slack)
        return None

    def _of_blocks(self, budgets: Mapping[str, float]) -> dict[str, float]:
        """Return what budgets of the whole network leave for its blocks."""
        whole = count(self.teacher, self.input_shape, convention_for(self.input_shape))
        blocks = counted(whole.under(*(path for block in self.chain.blocks for path in (block.path, *block.span))))
        rest = {kind: number - blocks[kind] for kind, number in counted(whole).items()}
        left = {kind: budget - rest[kind] for kind, budget in budgets.items() if kind != 'ms'}
        return left | ({'ms': self.line.blocks(budgets['ms'])} if 'ms' in budgets else {})

    def _cheapest_within(self, budgets: Mapping[str, float]) -> Planned:
        """Return the plan that takes least of what is limited, where it is measured to be within the budgets.

        Raises:
            ValueError: It is not.
        """
        least = {kind: self.measured(cheapest(self.options, kind)) for kind in budgets}
        for plan in least.values():
            if not excess(self._taken(plan), budgets):
                return plan
        raise ValueError(self._unreachable(budgets, {kind: self._taken(plan) for kind, plan in least.items()}))

    def _unreachable(self, budgets: Mapping[str, float], least: Mapping[str, Mapping[str, float]]) -> str:
        lines = []
        for kind, budget in budgets.items():
            reached = least[kind][kind]
            more = f' ({self.teacher_ms / reached:.2f} times as fast as the teacher)' if kind == 'ms' else ''
            lines.append(f'{amount(kind, budget)} asked for, {amount(kind, reached)}{more} is the least')
        together = any(excess({kind: least[kind][kind]}, {kind: budget}) for kind, budget in budgets.items())
        why = '' if together else ', each for itself, but not together'
        return f'no plan is within the budget: {"; ".join(lines)}{why}; allow more targets or smaller widths'

    # ---- measuring --------------------------------------------------------------------------------------------------

    def measured(self, choice: Choice) -> Planned:
        """Return the plan of a choice, its untrained network measured beside the teacher."""
        ((ms, speedup),) = time_choices(self.teacher, self.chain, [choice], **self.measuring)
        counts = self._counts(student_of(self.teacher, self.chain, choice))
        predicted = self.line.whole(choice.cost('ms'))
        numbers = {kind: int(number) for kind, number in counts.items()}
        return Planned(choice, recipe_of(choice), predicted, ms, speedup, **numbers)

    def _taken(self, plan: Planned) -> dict[str, float]:
        """Return what a plan takes; its milliseconds are the teacher's over its speed-up."""
        return dict(ms=self.teacher_ms / plan.speedup, params=plan.params, mults=plan.mults, acts=plan.acts)

    def _counts(self, network: nn.Module) -> dict[str, float]:
        return counted(count(network, self.input_shape, convention_for(self.input_shape)))
