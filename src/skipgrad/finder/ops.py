"""What each torch-level op is to a path: the table of rules behind trace and match.

A path from a fork may go through an op and still be a *shortcut* when the op is linear in it. The classes:

=========== =============================================================================
identity    moves or copies values: views, permutations, casts
slice       keeps some of the values, or pads them with constants
scaled      multiplies by something that does not come from the path (norms and dropout too)
pool        averages or picks over windows
resample    changes the resolution
matrix      matrix-like; with a learned tensor it is a *layer*
add         a merge by addition
lerp        a merge of two tensors by a third, ``x + w * (y - x)``
cat         a merge by concatenation
stack       concatenation along a new dimension, which a sum may take away again
unpool      a merge by indices of a pooling
nonlinear   activation functions and everything else a gradient does not pass linearly
constant    makes a tensor whose values do not depend on its input (``zeros_like``)
=========== =============================================================================
"""

from __future__ import annotations

import functools
from typing import Any

_TABLE: dict[str, str] = {
    "identity": """
        view reshape permute transpose flatten unflatten contiguous squeeze unsqueeze clone to type_as type float half
        bfloat16 double movedim moveaxis swapaxes swapdims t T mT H alias view_as reshape_as ravel identity cpu cuda
        roll flip fliplr flipud rot90 _to_copy as_strided requires_grad detach view_as_real view_as_complex real conj
        resolve_conj positive data channel_shuffle adjoint lift_fresh _unsafe_view align_to refine_names rename
        native_channel_shuffle _reshape_alias retain_grad as_subclass
    """,
    "slice": """
        getitem narrow select split chunk unbind index_select gather tensor_split split_with_sizes pad constant_pad_nd
        take take_along_dim masked_select unfold slice hsplit vsplit dsplit diagonal tril triu index iter masked_fill
        where index_copy index_put put scatter setitem copy slice_scatter select_scatter index_fill
        masked_scatter diag diff pad_sequence _unsafe_index _unsafe_index_put
        unsafe_chunk unsafe_split scatter_reduce topk sort fill_diagonal
    """,
    "scaled": """
        mul div neg dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout
        batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm cumsum mulconst ldexp
        native_batch_norm native_layer_norm native_group_norm _native_batch_norm_legit cudnn_batch_norm
        stochastic_depth native_dropout addcmul _native_batch_norm_legit_no_training
        _native_batch_norm_legit_functional
    """,
    "pool": """
        avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_pool1d
        max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
        adaptive_max_pool1d
        adaptive_max_pool2d adaptive_max_pool3d adaptive_max_pool2d_with_indices amax amin mean sum lp_pool1d lp_pool2d
        fractional_max_pool2d _adaptive_avg_pool2d _max_pool2d nanmean
    """,
    "resample": """
        interpolate upsample upsample_nearest upsample_bilinear pixel_shuffle pixel_unshuffle grid_sample repeat
        repeat_interleave expand expand_as fold tile broadcast_to im2col col2im upsample_nearest2d upsample_bilinear2d
        affine_grid channels_last fft rfft irfft fft2 ifft2 ifft rfft2 irfft2 fftn ifftn rfftn irfftn hfft ihfft
        fftshift ifftshift stft istft
    """,
    "matrix": """
        conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution
        _convolution linear matmul mm bmm mv dot
        einsum tensordot bilinear embedding embedding_bag lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell
        rnn_relu_cell multi_head_attention_forward deform_conv2d _conv_forward inner outer
        _native_multi_head_attention
        _transformer_encoder_layer_fwd _grouped_mm grouped_mm chain_matmul kron addmm baddbmm addbmm addmv
    """,
    "add": "add sub rsub index_add scatter_add",
    "lerp": "lerp",
    "cat": "cat concat concatenate hstack vstack dstack column_stack row_stack",
    "stack": "stack",
    "unpool": "max_unpool1d max_unpool2d max_unpool3d",
    "constant": """
        zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty
        new_full new_tensor arange zeros ones empty full rand randn randint tensor eye linspace empty_strided
        new_empty_strided
        as_tensor scalar_tensor shape_as_tensor tril_indices triu_indices meshgrid argmax argmin argsort nonzero
        bincount searchsorted bucketize randperm bernoulli multinomial one_hot isnan isinf isfinite eq ne lt le gt ge
        logical_not logical_and logical_or logical_xor any all equal allclose numel isclose sign signbit floor ceil
        round trunc floor_divide heaviside zero fill normal uniform random full_ nms manual_seed batched_nms
        cartesian_prod histc unique unique_consecutive count_nonzero bitwise_and bitwise_or bitwise_not and or invert
        frexp gt_ lt_ div_floor floordiv isin
    """,
    "nonlinear": """
        relu relu6 gelu silu mish selu elu celu leaky_relu prelu rrelu sigmoid tanh hardswish hardsigmoid hardtanh
        hardshrink softshrink tanhshrink softplus softsign softmax log_softmax softmin gumbel_softmax logsigmoid
        threshold glu exp expm1 exp2 log log1p log2 log10 pow rpow sqrt rsqrt abs absolute clamp clip clamp_min
        clamp_max maximum
        minimum max min aminmax norm int long bool short byte char vector_norm matrix_norm
        linalg_vector_norm linalg_norm normalize var
        std
        var_mean std_mean prod cumprod sin cos tan asin acos atan atan2 sinh cosh erf erfc erfinv square reciprocal
        logsumexp scaled_dot_product_attention cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss
        binary_cross_entropy binary_cross_entropy_with_logits kl_div ctc_loss cosine_similarity pairwise_distance
        cdist
        fmod remainder logit sinc polar complex roi_align roi_pool ps_roi_align mul2 angle xlogy addcdiv nan_to_num
        cummax cummin cosine_embedding_loss triplet_margin_loss sigmoid_focal_loss median quantile kthvalue mode
        logaddexp hypot xlog1py digamma lgamma cross inverse cholesky solve svd qr eigh det slogdet pinv
        triangular_solve binary_cross_entropy_ bernoulli_ true_divide_ item rsqrt_ softmax_ dist flex_attention hash
        _softmax _log_softmax log_sigmoid rdiv asinh acosh atanh solve_triangular lu_factor matrix_exp
        _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
        _scaled_dot_product_efficient_attention _scaled_dot_product_attention_math
    """,
}

CLASSES = frozenset(_TABLE)

CLASS_OF: dict[str, str] = {name: cls for cls, names in _TABLE.items() for name in names.split()}

NORMS = frozenset(name for name in CLASS_OF if "_norm" in name and CLASS_OF[name] == "scaled")
VIEWS = frozenset(_TABLE["identity"].split())
SPLITS = frozenset(
    (
        "split",
        "chunk",
        "unbind",
        "tensor_split",
        "split_with_sizes",
        "hsplit",
        "vsplit",
        "dsplit",
        "unsafe_chunk",
        "iter",
    )
)
# No gradient passes these, but their result depends on the values of their argument. A path that is masked by such a
# look at itself (``x * (x > 0)``) is not linear, though the product alone would be.
LOOKS = frozenset(
    name
    for line in (
        "eq ne lt le gt ge sign signbit isnan isinf isfinite floor ceil round trunc heaviside bernoulli argmax",
        "argmin logical_not logical_and logical_or logical_xor bitwise_not bitwise_and bitwise_or invert isclose",
        "and or",
    )
    for name in line.split()
)
# Python-level functions that ask whether two of their arguments are the same object, and then take another way. A tap
# must put the same alias in all places where x stood, or the run would leave the trace.
IDENTITY_SENSITIVE = frozenset({"multi_head_attention_forward"})
# Weighted ops that are one call and not linear in what they take, so that none can be on a shortcut.
CELLS = frozenset(
    """
    lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell multi_head_attention_forward
    _native_multi_head_attention _transformer_encoder_layer_fwd
    """.split()  # noqa: SIM905 - as the table above
)
# Of these ops only the first tensor is data; from the second they take no more than the shape or the dtype.
SHAPED_LIKE = frozenset({"view_as", "reshape_as", "expand_as", "type_as", "to"})
# Adds that put their last tensor where their indices say. They have no shape to broadcast to.
INDEXED_ADDS = frozenset({"index_add", "scatter_add"})
# Takes by indices and writes by indices; with tensors for indices, they change the resolution where the sizes differ.
GATHERS = frozenset({"getitem", "index", "_unsafe_index", "index_select", "gather", "take_along_dim", "masked_select"})
WRITES = frozenset({"setitem", "index_put", "_unsafe_index_put", "index_copy", "scatter", "masked_scatter"})
# Changes of size that are no change of the resolution when indices do the rest: sums, and copies for broadcasting.
WEAK = frozenset("sum mean nanmean amax amin repeat repeat_interleave expand expand_as broadcast_to tile".split())  # noqa: SIM905
_SPACES = ("fft_", "linalg_", "special_")

_SAME = {
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "rtruediv": "rdiv",
    "rdiv": "rdiv",
    "subtract": "sub",
    "multiply": "mul",
    "negative": "neg",
    "radd": "add",
    "rmul": "mul",
    "rmatmul": "matmul",
    "concat": "cat",
    "concatenate": "cat",
    "addmul": "mul",
    "boolean_dispatch": "max_pool2d",
}


@functools.cache
def canonical(raw: str) -> str:
    """The op a function computes, whatever it is called: ``__iadd__``, ``add_`` and ``radd`` are ``add``.

    >>> [canonical(n) for n in ("__iadd__", "relu_", "__rsub__", "add.Tensor", "conv2d")]
    ['add', 'relu', 'rsub', 'add', 'conv2d']
    """
    name = raw.split(".")[0]
    if name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
        if name[:1] == "i" and name[1:] in ("add", "sub", "mul", "truediv", "matmul", "pow", "and", "or", "floordiv"):
            name = name[1:]
    elif name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    name = _SAME.get(name, name)
    if name not in CLASS_OF:
        for space in _SPACES:  # ``torch.fft.rfft`` is called fft_rfft at this level
            if name.startswith(space) and name.removeprefix(space) in CLASS_OF:
                return name.removeprefix(space)
    return name


def as_called(raw: str, args: Any, kwargs: Any) -> str:
    """The op that a call computes: as `canonical`, but for functions that add only when they are told to.

    >>> as_called("index_put_", ("x", "at", "y"), {"accumulate": True}), as_called("index_put_", ("x", "at", "y"), {})
    ('index_add', 'index_put')
    """
    op = canonical(raw)
    if op not in _ADD_WHEN_TOLD:
        return op
    sums, key, place = _ADD_WHEN_TOLD[op]
    told = kwargs.get(key, args[place] if len(args) > place else None)
    return sums if told is True or told in ("add", "sum") else op


# op: (what it is when it adds, the argument that says so, and its place)
_ADD_WHEN_TOLD = {
    "index_put": ("index_add", "accumulate", 3),
    "_unsafe_index_put": ("index_add", "accumulate", 3),
    "_index_put_impl": ("index_add", "accumulate", 3),
    "put": ("index_add", "accumulate", 3),
    "scatter": ("scatter_add", "reduce", 4),
    "scatter_reduce": ("scatter_add", "reduce", 4),
}


def class_of(op: str) -> str | None:
    """The class of a canonical op; None when there is no rule for it."""
    return CLASS_OF.get(op)
