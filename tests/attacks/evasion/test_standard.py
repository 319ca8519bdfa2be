import torch
from support.searches import searching

from medward.attacks.evasion.apgd import worst_case_apgd
from medward.attacks.evasion.pgd import worst_case_pgd
from medward.attacks.evasion.standard import worst_case_standard
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball


def setting(deployed, attack_data, epsilon=0.1):
    x = torch.as_tensor(attack_data.test.inputs[:60])
    return x, network_decisions(deployed.network, x), Ball.of(deployed.spec, x.numpy(), epsilon)


def test_it_is_at_least_as_strong_as_each_gradient_attack(plain, attack_data):
    x, y, ball = setting(plain, attack_data)
    found = worst_case_standard(searching(plain.network, ball), x, y, steps=20, targets=4, queries=20)
    pgd = worst_case_pgd(searching(plain.network, ball), x, y, steps=20, restarts=1)
    apgd = worst_case_apgd(searching(plain.network, ball), x, y, steps=20, restarts=1, targets=4)
    assert found.won.sum() >= max(pgd.won.sum(), apgd.won.sum())


def test_masked_gradients_do_not_stop_it(quantised, attack_data):
    x, y, ball = setting(quantised, attack_data, epsilon=0.15)
    network = quantised.network
    blind = worst_case_standard(searching(network, ball), x, y, steps=10, restarts=1, queries=0)
    found = worst_case_standard(searching(network, ball), x, y, steps=10, restarts=1, queries=200)
    assert found.won.float().mean() > blind.won.float().mean() + 0.1


def test_a_row_already_wrong_is_won_as_it_is(plain, attack_data):
    x, y, ball = setting(plain, attack_data)
    labels = torch.where(torch.arange(len(y)) < 20, (y + 1) % 10, y)
    found = worst_case_standard(searching(plain.network, ball), x, labels, steps=5, queries=0)
    assert found.won[:20].all()
    assert torch.equal(found.adversarial[:20], x[:20])


def test_all_rows_won_at_once_need_no_step(plain, attack_data):
    x, y, ball = setting(plain, attack_data)
    found = worst_case_standard(searching(plain.network, ball), x, (y + 1) % 10)
    assert found.won.all()
    assert found.gradients == found.queries == 0


def test_two_classes_are_enough():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2).requires_grad_(False)
    x = torch.randn(50, 3)
    search = searching(network, Ball(torch.full((3,), 5.0)))
    found = worst_case_standard(search, x, network_decisions(network, x), steps=10, queries=10)
    assert found.won.all()
