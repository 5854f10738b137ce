"""Names and shapes of the released UniPET code, so that its users can bring their weights."""

from collections.abc import Mapping

from torch import Tensor

__all__ = ["convert_released_state_dict", "released_architecture"]

# Modules of a SAN stage: name here -> name in the released architecture.
_STAGE_MODULES = {
    "reduce": "conv1.0",
    "attention.squeeze": "att.se.0",
    "attention.excite": "att.se.2",
    "down": "conv2.0",
    "expand": "conv2.2",
    "to_latent": "fc.1",
}
_LINEAR_HERE = ("attention.squeeze", "attention.excite", "to_latent")  # 1x1x1 convolutions there


def released_architecture(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Arguments of :class:`~pipeline.networks.UniPET` that fit a released state dict.

    Raises
    ------
    ValueError
        If the first convolution is missing, so that this is no such state dict.
    """
    if "conv0.weight" not in state_dict or "san.body.0.fc.1.weight" not in state_dict:
        raise ValueError("not a state dict of the released UniPET: conv0.weight or san.body.0.fc.1.weight is missing")
    return {
        "channels": state_dict["conv0.weight"].shape[0],
        "n_blocks": _count(state_dict, "blocks."),
        "n_stages": _count(state_dict, "san.body."),
        "latent_size": state_dict["san.body.0.fc.1.weight"].shape[0],
        "style_width": state_dict["san.body.0.fc.1.weight"].shape[1],
    }


def convert_released_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of :class:`~pipeline.networks.UniPET` from one of the released code.

    Raises
    ------
    ValueError
        If a tensor is missing or unknown.
    """
    remaining = dict(state_dict)
    converted: dict[str, Tensor] = {}

    def move(source: str, target: str) -> Tensor:
        if source not in remaining:
            raise ValueError(f"released state dict lacks {source}")
        converted[target] = remaining.pop(source)
        return converted[target]

    for name in ("conv0", "reconstruct"):
        move(f"{name}.weight", f"base.{name}.weight")
        move(f"{name}.bias", f"base.{name}.bias")
    for i in range(_count(state_dict, "blocks.")):
        there, here = f"blocks.{i}", f"base.blocks.{i}"
        move(f"{there}.act.weight", f"{here}.act.weight")
        converted[f"{here}.res_scale"] = move(f"{there}.res_scale", f"{here}.res_scale").flatten()
        for k in (1, 2):
            move(f"{there}.convmod{k}.weight", f"{here}.conv{k}.weight")
            style_map = f"style_maps.{2 * i + k - 1}"
            converted[f"{style_map}.weight"] = move(f"{there}.sw{k}.weight", f"{style_map}.weight").flatten(1)
            move(f"{there}.sw{k}.bias", f"{style_map}.bias")
    for i in range(_count(state_dict, "san.body.")):
        there, here = f"san.body.{i}", f"san.stages.{i}"
        move(f"{there}.conv1.1.weight", f"{here}.activation.weight")
        for copy_of_activation in ("conv2.1", "conv2.3", "fc.2"):
            remaining.pop(f"{there}.{copy_of_activation}.weight", None)
        for name, released_name in _STAGE_MODULES.items():
            weight = move(f"{there}.{released_name}.weight", f"{here}.{name}.weight")
            if name in _LINEAR_HERE:
                converted[f"{here}.{name}.weight"] = weight.flatten(1)
                move(f"{there}.{released_name}.bias", f"{here}.{name}.bias")
    if remaining:
        raise ValueError(f"released state dict has unknown entries: {', '.join(sorted(remaining))}")
    return converted


def _count(state_dict: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state_dict if key.startswith(prefix)})
