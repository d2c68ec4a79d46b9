"""What the grader reads of a homework, one after the other in one process."""

import torch

from utils.grading import homework


def test_a_page_that_switches_gradients_off_leaves_them_on_for_the_next():
    homework.load.cache_clear()
    with torch.set_grad_enabled(True):
        homework.load("hw07")  # its setup switches them off
        assert torch.is_grad_enabled()
        assert len(homework.load("hw04").exercises) == 5  # its cases are made with gradients
