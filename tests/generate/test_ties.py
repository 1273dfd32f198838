"""Where candidates are exactly as likely as a limit, the limit counts as reached."""

import numpy as np
import pytest

from ggufpy.generate.sampler import Sampler, SamplingParams

ALIKE = np.zeros(8, np.float32)


@pytest.mark.parametrize("top_p, kept", [(0.5, 4), (0.125, 1), (0.51, 5), (0.0, 1)])
def test_top_p_keeps_no_more_than_reach_it(top_p: float, kept: int) -> None:
    sampler = Sampler(SamplingParams(temp=1.0, top_k=0, top_p=top_p, min_p=0.0, seed=3))
    assert len({sampler.draw(ALIKE) for _ in range(300)}) == kept


def test_min_p_keeps_those_that_are_as_likely_as_it_asks() -> None:
    sampler = Sampler(SamplingParams(temp=1.0, top_k=0, top_p=1.0, min_p=1.0, seed=3))
    assert len({sampler.draw(ALIKE) for _ in range(300)}) == 8
