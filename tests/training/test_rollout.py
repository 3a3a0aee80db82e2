import torch

from hark.training.rollout import flat, is_response, last_places, padded, sums_per_response


def test_padded_and_flat_are_inverse():
    lengths = torch.tensor([2, 1, 3])
    values = torch.arange(6.0)
    table = padded(values, lengths)
    assert table.tolist() == [[0, 1, 0], [2, 0, 0], [3, 4, 5]]
    assert is_response(lengths).sum(dim=1).tolist() == [2, 1, 3]
    assert flat(table, lengths).tolist() == values.tolist()


def test_places_and_sums_of_responses():
    lengths = torch.tensor([2, 1, 3])
    assert last_places(lengths).tolist() == [1, 2, 5]
    assert sums_per_response(torch.arange(6.0), lengths).tolist() == [1.0, 2.0, 12.0]
