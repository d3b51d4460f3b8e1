"""Sorting by one block: the data are right, the answer is read off as it is written, positions do what they should.
单块排序：数据正确，答案按生成顺序读取，位置特征符合预期。
"""

import torch

from chapter_07_attention_mechanism.sorter import Sorter, SorterConfig, wave_features
from chapter_07_attention_mechanism.tasks.sort import ANSWERS, Sort, draw_lists
from chapter_07_attention_mechanism.vocab import BOS_ID, EOS_ID, PAD_ID

CPU = torch.device("cpu")
TASK = Sort({"width": 8, "n_heads": 2, "hidden": 8}, batch_size=50, device=CPU, test_count=30)


def test_targets_are_the_answers():
    torch.manual_seed(0)
    (tokens, signs, shift), targets = TASK.batch()
    assert set(shift.tolist()) <= set(range(13)) and len(shift.unique()) > 8
    for row, sign, wanted in zip(tokens, signs.tolist(), targets, strict=True):
        task = TASK.vocabulary.pieces[row[sign]]
        assert row[0] == BOS_ID
        numbers = [int(piece) for piece in TASK.vocabulary.decode(row[1:sign].tolist())]
        answer = TASK.vocabulary.encode(map(str, ANSWERS[task](numbers))) + [EOS_ID]
        assert wanted[:sign].eq(PAD_ID).all() and wanted[sign : sign + len(answer)].tolist() == answer
        assert wanted[sign + len(answer) :].eq(PAD_ID).all()


def test_without_a_shift_positions_are_those_of_the_list():
    unshifted = Sort({"width": 8, "n_heads": 2, "hidden": 8}, batch_size=50, device=CPU, shift=0)
    (_, _, shift), _ = unshifted.batch()
    assert shift.eq(0).all()


def test_no_list_is_trained_on_and_tested_in_any_order():
    drawn = {}
    for part in ("train", "validation", "test"):
        lists = draw_lists(300, range(2, 4), torch.Generator().manual_seed(0), part)
        assert {len(numbers) for numbers in lists} == {2, 3} and len(set(sum(lists, []))) > 20
        drawn[part] = {tuple(sorted(numbers)) for numbers in lists}
    assert len(set().union(*drawn.values())) == sum(map(len, drawn.values()))
    torch.manual_seed(0)
    for _ in range(5):
        (tokens, signs, _), _ = TASK.batch()
        for row, sign in zip(tokens, signs.tolist(), strict=True):
            numbers = TASK.vocabulary.decode(row[1:sign].tolist())
            assert tuple(sorted(map(int, numbers))) not in drawn["test"] | drawn["validation"]


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

    def forward(self, tokens, signs):
        log_p = torch.full((*tokens.shape, len(TASK.vocabulary)), -9.0)
        for b, (row, sign) in enumerate(zip(tokens, signs.tolist(), strict=True)):
            numbers = [int(piece) for piece in TASK.vocabulary.decode(row[1:sign].tolist())]
            answer = TASK.vocabulary.encode(map(str, ANSWERS[self.task](numbers))) + [EOS_ID] * 30
            written = len(row) - 1 - sign
            log_p[b, -1, answer[written]] = 0.0
            if self.fault and written == 1:
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
    (tokens, signs, shift), _ = TASK.batch()
    changed = tokens.clone()
    changed[:, -1] = 5
    before, after = model(tokens, signs, shift), model(changed, signs, shift)
    assert torch.equal(before[:, :-1], after[:, :-1])
    weights = model.look(tokens, signs, shift, need_weights=True)[1]
    torch.testing.assert_close(model.look(tokens, signs, shift, True)[0], before, atol=1e-5, rtol=0)
    assert weights.shape == (50, 2, tokens.shape[1], tokens.shape[1]) and weights.triu(1).eq(0).all()


def test_every_place_hears_the_sign():
    model = Sorter(SorterConfig(len(TASK.vocabulary), 8, 2, 8)).eval()
    (tokens, signs, _), _ = TASK.batch()
    other = tokens.scatter(1, signs[:, None], TASK.vocabulary.ids["sort"])
    hears = (model(other, signs) != model(tokens, signs)).any(dim=-1)  # (B, T)
    unlike = (other != tokens).any(dim=1)
    assert hears[unlike].all() and not hears[~unlike].any() and 0 < unlike.sum() < 50


def test_a_shift_leaves_list_and_answer_as_far_from_their_mirror_images():
    """Reversing asks for position -(p + 1) from position p, however far list and answer are apart."""
    model = Sorter(SorterConfig(len(TASK.vocabulary), 8, 2, 8)).eval()
    seen = []
    model.position.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    tokens, signs = torch.full((1, 8), 9), torch.tensor([4])
    model(tokens, signs, torch.tensor([10]))
    torch.testing.assert_close(seen[0][0], wave_features(torch.tensor([-14, -13, -12, -11, 10, 11, 12, 13]), 8))
    model(tokens, signs, torch.tensor([0]))
    model(tokens, signs)
    torch.testing.assert_close(seen[1][0], wave_features(torch.arange(-4, 4), 8))
    assert torch.equal(seen[1], seen[2])
