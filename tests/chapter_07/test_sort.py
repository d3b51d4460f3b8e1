"""Sorting by one block: the data are right, the answer is read off as it is written, positions do what they should.
单块排序：数据正确，答案按生成顺序读取，位置特征符合预期。
"""

import torch

from chapter_07_attention_mechanism.sorter import Sorter, SorterConfig, wave_features
from chapter_07_attention_mechanism.tasks.sort import ANSWERS, Sort
from chapter_07_attention_mechanism.vocab import EOS_ID, PAD_ID

CPU = torch.device("cpu")
TASK = Sort({"width": 8, "n_heads": 2, "hidden": 8}, batch_size=50, device=CPU, test_count=30)


def test_targets_are_the_answers():
    torch.manual_seed(0)
    (tokens, positions), targets = TASK.batch()
    for row, places, wanted in zip(tokens, positions, targets, strict=True):
        sign = int((places == 0).nonzero())
        task = TASK.vocabulary.pieces[row[sign]]
        numbers = [int(piece) for piece in TASK.vocabulary.decode(row[:sign].tolist())]
        answer = TASK.vocabulary.encode(map(str, ANSWERS[task](numbers))) + [EOS_ID]
        assert wanted[:sign].eq(PAD_ID).all() and wanted[sign : sign + len(answer)].tolist() == answer
        assert wanted[sign + len(answer) :].eq(PAD_ID).all()


def test_answers():
    numbers = [3, 1, 3, 2]
    assert {task: answer(numbers) for task, answer in ANSWERS.items()} == {
        "sort": [1, 2, 3, 3],
        "reverse": [2, 3, 1, 3],
        "unique": [1, 2, 3],
    }


class Oracle(torch.nn.Module):
    """Answers one task without a fault, given the whole of what was written so far."""

    def __init__(self, task, fault=False):
        super().__init__()
        self.task, self.fault = task, fault

    def forward(self, tokens, positions):
        log_p = torch.full((*tokens.shape, len(TASK.vocabulary)), -9.0)
        for b, (row, places) in enumerate(zip(tokens, positions, strict=True)):
            sign = int((places == 0).nonzero())
            numbers = [int(piece) for piece in TASK.vocabulary.decode(row[:sign].tolist())]
            answer = TASK.vocabulary.encode(map(str, ANSWERS[self.task](numbers))) + [EOS_ID] * 30
            log_p[b, -1, answer[int(places[-1])]] = 0.0
            if self.fault and places[-1] == 1:
                log_p[b, -1, 5] = 1.0
        return log_p


def test_an_oracle_scores_1_and_a_fault_costs_the_answer():
    numbers = [[9, 4, 9, 30], [1, 2, 3, 4]]
    for task in ANSWERS:
        assert TASK.exact_match(Oracle(task), task, numbers) == 1
        assert TASK.exact_match(Oracle(task, fault=True), task, numbers) == 0
    assert TASK.exact_match(Oracle("reverse"), "sort", numbers) == 0


def test_a_shift_of_positions_is_one_rotation():
    positions, step = torch.arange(-400, 400, dtype=torch.float64), 3
    now, later = wave_features(positions, 16), wave_features(positions + step, 16)
    solution = torch.linalg.lstsq(now, later).solution
    torch.testing.assert_close(now @ solution, later, atol=1e-5, rtol=0)
    torch.testing.assert_close(solution @ solution.T, torch.eye(16, dtype=torch.float64), atol=1e-4, rtol=0)
    mirrored = wave_features(-positions, 16)
    torch.testing.assert_close(mirrored, torch.cat([-now[:, :8], now[:, 8:]], dim=1), atol=1e-5, rtol=0)


def test_the_answer_cannot_see_what_follows():
    model = Sorter(SorterConfig(len(TASK.vocabulary), 8, 2, 8)).eval()
    (tokens, positions), _ = TASK.batch()
    changed = tokens.clone()
    changed[:, -1] = 5
    before, after = model(tokens, positions), model(changed, positions)
    assert torch.equal(before[:, :-1], after[:, :-1])
    weights = model.look(tokens, positions, need_weights=True)[1]
    torch.testing.assert_close(model.look(tokens, positions, True)[0], before, atol=1e-5, rtol=0)
    assert weights.shape == (50, 2, tokens.shape[1], tokens.shape[1]) and weights.triu(1).eq(0).all()
