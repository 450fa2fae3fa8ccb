"""Small nets for trainings in processes of their own."""

from torch import nn


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        return x + self.second(self.drop(self.first(x).relu()))


class Net(nn.Module):
    """(N, 1, 8, 8) → ten classes; dropout, a batch norm and three skips."""

    def __init__(self, width: int = 16, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, width), nn.BatchNorm1d(width))
        self.blocks = nn.Sequential(*[Block(width) for _ in range(3)])
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


def dropped() -> nn.Module:
    return Net()


def wider() -> nn.Module:
    return Net(24)


class Plain(nn.Module):
    """The same without what depends on the other samples or on chance: as good in two processes as in one."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.LayerNorm(width))
        self.blocks = nn.Sequential(*[Block(width) for _ in range(3)])
        for block in self.blocks:
            block.drop.p = 0.0
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


def plain() -> nn.Module:
    return Plain()
