"""Where text and picture lie in sequences, when each row has them at its own places: algebra of taking and putting.

| law | mutation that turned it red |
|---|---|
| a picture right behind each row's text | the picture behind the longest text |
| put what was taken | padding counted as the picture's |
| laid in another order | the two orders exchanged |
"""

from __future__ import annotations

import torch

TOKENS, WIDTH = 3, 2  # of the picture; of each token
LENGTHS = (4, 1, 2)  # of each row's text


def sequences() -> torch.Tensor:
    """[3, 7, 2]: tokens of text are 1, 2, ..., those of the picture -1, -2, -3, padding is 0."""
    rows = []
    for length in LENGTHS:
        text, picture = torch.arange(1, length + 1), -torch.arange(1, TOKENS + 1)
        rows.append(torch.cat([text, picture, torch.zeros(max(LENGTHS) - length, dtype=torch.long)]))
    return torch.stack(rows)[..., None].repeat(1, 1, WIDTH).float()


def shown() -> torch.Tensor:
    return (torch.arange(5) < torch.tensor(LENGTHS)[:, None]).long()


def test_the_picture_stands_right_behind_each_rows_own_text() -> None:
    from steering.families.spans import Span, behind_text

    span, x = Span("first"), sequences()
    picture = behind_text(shown(), TOKENS)
    assert span.rest(x, picture)[..., 0].tolist() == [[-1, -2, -3]] * 3
    assert span.take(x, picture)[..., 0].tolist() == [[1, 2, 3, 4], [1, 0, 0, 0], [1, 2, 0, 0]]


def test_rows_of_one_length_need_no_places_of_their_own() -> None:
    from steering.families.spans import behind_text

    assert behind_text(torch.ones(2, 4), TOKENS).order is None


def test_what_was_taken_can_be_put_back_and_other_text_changes_nothing_else() -> None:
    from steering.families.spans import Picture, Span, behind_text

    x = sequences()
    for span in (Span("first"), Span("last"), Span("first", columns=(1, 2)), Span("last", row_axis=1)):
        whole = x.transpose(0, 1) if span.row_axis else x
        ragged = span.where == "first"
        picture = behind_text(shown(), TOKENS) if ragged else Picture(TOKENS)
        text, rest = span.take(whole, picture), span.rest(whole, picture)
        assert torch.equal(span.put(whole, picture, text, rest), whole)
        changed = span.put(whole, picture, text + 10)
        assert torch.equal(span.take(changed, picture), text + 10)
        assert torch.equal(span.rest(changed, picture), rest)
        if span.columns is not None:
            assert torch.equal(changed[..., 0], x[..., 0])


def test_a_rows_tokens_are_laid_as_another_row_has_them() -> None:
    from steering.families.spans import Span, behind_text, relaid

    x, picture = sequences(), behind_text(shown(), TOKENS)
    assert picture.order is not None
    src = torch.tensor([1, 1, 0])
    laid = relaid(x.index_select(0, src), picture.order.index_select(0, src), picture.order)
    assert Span("first").take(laid, picture)[..., 0].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [1, 2, 3, 4]]
    assert torch.equal(laid[1], x[1])
