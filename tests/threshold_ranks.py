"""One of two gloo processes that share a threshold: `threshold_ranks.py RANK STORE OUT`.

It saves what the rank computed: for each step its selection and its statistics under the default
and an explicit process group, and at the end the statistics under a group of this rank alone.
"""

import copy
import sys

import torch
import torch.distributed as dist

from pseudolabel import SelfAdaptiveThreshold

STEPS = [(5, 3), (4, 0), (0, 0), (0, 2), (1, 7)]  # rows on rank 0 and on rank 1


def step_rows(step, rank):
    """The probabilities that a rank sees in a step."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    return (2 * torch.randn(STEPS[step][rank], 3, generator=generator)).softmax(-1)


def threshold(**options):
    """A threshold that moves fast enough to see."""
    return SelfAdaptiveThreshold(3, momentum=0.5, **options)


def main(rank, store, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    groups = [dist.new_group([member]) for member in range(2)]
    default = threshold()
    explicit = threshold(process_group=dist.group.WORLD)
    alone = threshold(process_group=groups[rank])
    steps = []
    for step in range(len(STEPS)):
        rows = step_rows(step, rank)
        selection = default.train()(rows)
        explicit(rows)
        alone(rows)
        if rank == 0:
            default.eval()(rows)  # a rank that only selects waits for nobody
        states = (default.state_dict(), explicit.state_dict())
        steps.append((tuple(selection), *map(copy.deepcopy, states)))
    torch.save((steps, alone.state_dict()), out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
