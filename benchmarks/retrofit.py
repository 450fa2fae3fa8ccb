"""Which skips of which nets each retrofit reaches, and whether it does there what it promises.

For every net and form: plan, apply, verify on inputs, load the old checkpoint, one training step, undo. A cell says
"k of n" when all of that holds, and "k of n: why" where it does not. Nothing is timed.

    OMP_NUM_THREADS=1 python benchmarks/retrofit.py --out benchmarks/results/DATE-retrofit.txt
    python benchmarks/retrofit.py --docs benchmarks/results/DATE-retrofit.txt   # measures nothing: the page's table
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from machine import machine, versions
from torch import nn

import skipgrad as sg
from skipgrad.core.errors import RemedyRefused
from skipgrad.instrument.tensors import tensors_in
from skipgrad.remedies import Evidence

FORMS: dict[str, dict[str, Any]] = {
    "rezero": {"start": 1.0},
    "skipinit": {},
    "layerscale": {"init_values": 1.0},
    "fixup": {},
    "branch-scale": {},
    "deepnorm": {},
    "stochastic-depth": {},
    "pre-norm": {},
    "scalelong": {},
    "hyper-connections": {},
    "value-residual": {},
}
PAGE = Path(__file__).parents[1] / "docs" / "remedies" / "retrofit.md"
BEGIN, END = "<!-- reached: made by benchmarks/retrofit.py -->", "<!-- /reached -->"

Net = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]


def image(size: int) -> torch.Tensor:
    return torch.randn(2, 3, size, size)


def nets() -> dict[str, Callable[[], Net]]:
    """The nets by name; each is made when it is asked for."""
    import timm
    import torchvision
    from transformers import (
        BertConfig,
        BertModel,
        GPT2Config,
        GPT2Model,
        LlamaConfig,
        LlamaModel,
        T5Config,
        T5Model,
        ViTConfig,
        ViTModel,
    )  # fmt: skip

    ids = torch.arange(8)[None]
    small = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}

    def vision(name: str, size: int = 64, **kw: Any) -> Callable[[], Net]:
        return lambda: (getattr(torchvision.models, name)(weights=None, **kw), (image(size),), {})

    def of_timm(name: str, size: int = 224) -> Callable[[], Net]:
        return lambda: (timm.create_model(name), (image(size),), {})

    def unets() -> Iterator[tuple[str, Callable[[], Net]]]:
        def smp() -> Net:
            import segmentation_models_pytorch

            model = segmentation_models_pytorch.Unet("resnet18", encoder_weights=None)
            return model, (image(64),), {}

        def monai() -> Net:
            from monai.networks.nets import UNet

            model = UNet(2, 1, 2, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)
            return model, (torch.randn(2, 1, 32, 32),), {}

        def diffusers() -> Net:
            from diffusers import UNet2DModel

            model = UNet2DModel(
                sample_size=16, in_channels=3, out_channels=3, block_out_channels=(32, 64), norm_num_groups=8,
                down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            )  # fmt: skip
            return model, (torch.randn(2, 3, 16, 16), torch.tensor([1, 2])), {}

        yield "smp Unet (resnet18)", smp
        yield "MONAI UNet", monai
        yield "diffusers UNet2DModel", diffusers

    return {
        "torchvision resnet50": vision("resnet50"),
        "torchvision convnext_tiny": vision("convnext_tiny"),
        "torchvision densenet121": vision("densenet121"),
        "torchvision swin_t": vision("swin_t"),
        "torchvision vit_b_16": vision("vit_b_16", image_size=64),
        "timm resnet18": of_timm("resnet18", 64),
        "timm convnext_atto": of_timm("convnext_atto", 64),
        "timm regnetx_002": of_timm("regnetx_002", 64),
        "timm efficientnet_b0": of_timm("efficientnet_b0", 64),
        "timm mobilenetv3_small_050": of_timm("mobilenetv3_small_050", 64),
        "timm mixer_s32_224": of_timm("mixer_s32_224"),
        "timm deit_tiny_patch16_224": of_timm("deit_tiny_patch16_224"),
        "timm nfnet_l0": of_timm("nfnet_l0", 64),
        "timm cait_xxs24_224": of_timm("cait_xxs24_224"),
        "timm poolformer_s12": of_timm("poolformer_s12", 64),
        "timm resmlp_12_224": of_timm("resmlp_12_224"),
        "timm beit_base_patch16_224": of_timm("beit_base_patch16_224"),
        "timm xcit_nano_12_p16_224": of_timm("xcit_nano_12_p16_224"),
        "transformers GPT-2": lambda: (GPT2Model(GPT2Config(n_layer=2, n_embd=32, n_head=2)), (ids,), {}),
        "transformers BERT": lambda: (BertModel(BertConfig(**small)), (ids,), {}),
        "transformers T5": lambda: (
            T5Model(T5Config(num_layers=2, d_model=32, d_kv=16, num_heads=2, d_ff=64)),
            (),
            {"input_ids": ids, "decoder_input_ids": ids},
        ),
        "transformers Llama": lambda: (LlamaModel(LlamaConfig(**small)), (ids,), {}),
        "transformers ViT": lambda: (ViTModel(ViTConfig(**small, image_size=32)), (torch.randn(2, 3, 32, 32),), {}),
        **dict(unets()),
    }


def tried(net: Net, form: str) -> str:
    """One cell: what was reached, or why nothing was; the model is left as it was."""
    model, args, kwargs = net
    model.eval()
    with torch.no_grad():
        for p in model.parameters():  # what starts at zero would let no gradient through
            if not p.any():
                p.normal_(std=0.02)
    graph = sg.find(model, *args, **kwargs)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    try:
        plan = sg.remedy(form, **FORMS[form]).plan(graph)
        applied = plan.apply(model)
    except RemedyRefused:
        return "–"
    faults = []
    try:
        if not applied.verify(Evidence(args, kwargs)).ok:
            faults.append("not verified")
        model.load_state_dict(before)  # an old checkpoint; raises where a key is missed
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        model.train()
        out = next(t for t in tensors_in(model(*args, **kwargs)) if t.is_floating_point())
        out.square().mean().backward()
        optimizer.step()
        scales = [p for n, p in model.named_parameters() if "skipgrad_" in n]
        if scales and not any(p.grad is not None and bool(p.grad.any()) for p in scales):
            faults.append("no gradient reaches the new weights")
    finally:
        applied.undo()
        model.zero_grad()
        model.load_state_dict(before)  # batch norms have counted the step
    if list(model.state_dict()) != list(before):
        faults.append("undo left something")
    return f"{len(plan.reached)} of {len(graph)}" + (f": {', '.join(faults)}" if faults else "")


def page_table(measured: str) -> str:
    """The table for the page: forms that reach the same in every net share a column, so that it fits a window."""
    lines = [line.strip("| ").split(" | ") for line in measured.splitlines() if line.startswith("| ")]
    (_, *forms), rows = lines[0], lines[1:]
    columns: dict[tuple[str, ...], list[str]] = {}
    for k, form in enumerate(forms, 1):
        columns.setdefault(tuple(row[k] for row in rows), []).append(form)
    head = "| net | " + " | ".join(", ".join(names) for names in columns.values()) + " |"
    body = [f"| {row[0]} | " + " | ".join(cells[i] for cells in columns) + " |" for i, row in enumerate(rows)]
    return "\n".join([head, "|---" * (1 + len(columns)) + "|", *body])


def write_page(measured: str) -> None:
    """Puts the table into the page, between its marks."""
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{page_table(measured)}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="nets whose name holds this")
    parser.add_argument("--docs", type=Path, help="write this result's table into docs/remedies/retrofit.md, and end")
    options = parser.parse_args()
    if options.docs:
        write_page(options.docs.read_text(encoding="utf-8"))
        return 0
    warnings.filterwarnings("ignore")
    rows = ["| net | " + " | ".join(FORMS) + " |", "|---" * (len(FORMS) + 1) + "|"]
    failed = 0
    for name, build in nets().items():
        if options.only not in name:
            continue
        torch.manual_seed(0)
        net = build()
        cells = [tried(net, form) for form in FORMS]
        failed += sum(":" in c for c in cells)
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
        print(rows[-1], flush=True)
    table = "\n".join(rows)
    if options.out:
        options.out.write_text(f"{machine()}\n{versions()}\n\n{table}\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
