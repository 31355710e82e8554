"""Neural networks: modules with parameters, whose names and layouts of weights are those of PyTorch.

The functions that they call are in `portkit.tensor.functional`; optimizers are in `portkit.tensor.optim`.
"""

from __future__ import annotations

from portkit.tensor.nn.attention import MultiHeadAttention, TransformerEncoderLayer
from portkit.tensor.nn.convolutions import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from portkit.tensor.nn.layers import (
    ELU,
    GELU,
    AdaptiveAvgPool,
    AvgPool,
    Dropout,
    Embedding,
    Flatten,
    Function,
    Identity,
    Interpolate,
    LeakyReLU,
    Linear,
    LogSoftmax,
    MaxPool,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from portkit.tensor.nn.module import Module, Sequential, parameter_count
from portkit.tensor.nn.norms import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from portkit.tensor.nn.recurrent import GRU, LSTM, RNN

__all__ = [
    "AdaptiveAvgPool",
    "AvgPool",
    "BatchNorm",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "ELU",
    "Embedding",
    "Flatten",
    "Function",
    "GELU",
    "GRU",
    "GroupNorm",
    "Identity",
    "InstanceNorm",
    "Interpolate",
    "LSTM",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool",
    "Module",
    "MultiHeadAttention",
    "RMSNorm",
    "RNN",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "TransformerEncoderLayer",
    "parameter_count",
]
