import torch
from small_runs import small_config

from scaling.study import GRADIENT_CLIP
from scaling.training.learner import Learner


def test_the_dense_gradients_have_a_norm_of_at_most_the_limit(tiny_store):
    learner = Learner(small_config(tiny_store), tiny_store, "cpu")
    learner.begin_step(1.0, 0)
    model = learner.model
    dense = [p for p in model.parameters() if p is not model.embeddings.weight]
    for parameter in dense:
        parameter.grad = torch.full_like(parameter, 7.0)
    rows = torch.tensor([[2]])
    table = model.embeddings.weight
    table.grad = torch.sparse_coo_tensor(
        rows, torch.ones(1, table.shape[1]), table.shape, check_invariants=True
    )
    learner.end_step()
    norm = torch.cat([p.grad.flatten() for p in dense]).norm()
    # torch divides by the norm plus 1e-6, and sums float32
    assert abs(float(norm) - GRADIENT_CLIP) < 1e-3
