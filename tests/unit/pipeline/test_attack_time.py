"""How long the attackers are announced to take."""

from toolkit.privacy.attacks.inverse_network import InverseNetworkSettings
from toolkit.privacy.settings import AttackSettings
from toolkit.stages.estimate import VARIANTS, suites


def test_every_training_of_all_attackers_is_counted():
    assert suites(AttackSettings()) == VARIANTS
    assert suites(AttackSettings(seeds=3)) == 3 * VARIANTS
    whole = AttackSettings(preset="headline", seeds=3, frames=(1, 4, 16))
    assert suites(whole) == 3 * (VARIANTS + 3) + 2 * 2


def test_the_check_by_data_doubles_the_steps():
    short = InverseNetworkSettings(steps=10, doublings=2)
    assert short.most_steps() == 40
    assert short.model_copy(update={"data_check": True}).most_steps() == 80
