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
