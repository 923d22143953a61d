"""SwinFusion: shifted-window transformers that attend within and across the two modalities."""

from collections import OrderedDict
from typing import Optional, Tuple, Type, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irvis.student.teachers.network import FusionNetwork, Output

Pair = Tuple[Tensor, Tensor]
CHANNELS = 60
HEADS = 6
WINDOW = 8
TRAINED_SIZE = 128  # of the crops, the size for which the state dict holds the masks


class SwinFusion(FusionNetwork):
    """Ma et al., "SwinFusion: Cross-domain Long-range Learning for General Image Fusion via Swin Transformer", 2022.

    The network of the published infrared-visible weights (``swinfusion1`` in the authors' options): four transformer
    blocks per modality, two rounds of attention within and across modalities, four more blocks, and three convolutions.
    Planes are padded by reflection to whole windows below and to the right, and the outputs cut back; the authors' test
    script first mirrors a strip of up to one window there, which their training does not. The fused plane is unbounded:
    their 8-bit cast clips it to [0, 1].
    """

    feature = "input of layers_Re: 60 x H x W"
    repository = "Linfeng-Tang/SwinFusion"
    paper = (
        'Ma et al., "SwinFusion: Cross-domain Long-range Learning for General Image Fusion via Swin Transformer", '
        "IEEE/CAA Journal of Automatica Sinica 2022"
    )
    cast = "round"

    def __init__(self) -> None:
        super().__init__()
        half = CHANNELS // 2
        self.conv_first1_A, self.conv_first2_A = _conv3x3(1, half), _conv3x3(half, CHANNELS)
        # Never called, since both modalities go through the pair above: in the state dict only.
        self.conv_first1_B, self.conv_first2_B = _conv3x3(1, half), _conv3x3(half, half)
        self.lrelu = nn.LeakyReLU(0.2)
        self.patch_embed = nn.Sequential(OrderedDict(norm=nn.LayerNorm(CHANNELS)))
        self.layers_Ex_A, self.norm_Ex_A = Series([Stage(4)]), nn.LayerNorm(CHANNELS)
        self.layers_Ex_B, self.norm_Ex_B = Series([Stage(4)]), nn.LayerNorm(CHANNELS)
        self.layers_Fusion = Series([CrossStage(2), CrossStage(2)])
        self.norm_Fusion_A, self.norm_Fusion_B = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.conv_after_body_Fusion = _conv3x3(2 * CHANNELS, CHANNELS)
        self.layers_Re, self.norm_Re = Series([Stage(4)]), nn.LayerNorm(CHANNELS)
        self.conv_last1, self.conv_last2 = _conv3x3(CHANNELS, half), _conv3x3(half, half // 2)
        self.conv_last3 = _conv3x3(half // 2, 1)

    def forward(self, infrared: Tensor, visible: Tensor) -> Output:
        height, width = infrared.shape[2:]
        padding = (0, -width % WINDOW, 0, -height % WINDOW)
        infrared, visible = (F.pad(plane, padding, mode="reflect") for plane in (infrared, visible))
        mask = shift_mask(height + padding[3], width + padding[1], infrared.device).to(infrared.dtype)

        x = self.norm_Ex_A(self.layers_Ex_A(self.embed(self.shallow(infrared)), mask))
        y = self.norm_Ex_B(self.layers_Ex_B(self.embed(self.shallow(visible)), mask))
        x, y = self.layers_Fusion((self.patch_embed(x), self.patch_embed(y)), mask)
        both = torch.cat([self.norm_Fusion_A(x), self.norm_Fusion_B(y)], dim=-1).permute(0, 3, 1, 2)
        feature = self.lrelu(self.conv_after_body_Fusion(both))

        x = self.norm_Re(self.layers_Re(self.embed(feature), mask)).permute(0, 3, 1, 2)
        fused = self.conv_last3(self.lrelu(self.conv_last2(self.lrelu(self.conv_last1(x)))))
        return feature[:, :, :height, :width], fused[:, :, :height, :width]

    def shallow(self, plane: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 60, H, W)."""
        return self.lrelu(self.conv_first2_A(self.lrelu(self.conv_first1_A(plane))))

    def embed(self, feature: Tensor) -> Tensor:
        """(B, 60, H, W) -> (B, H, W, 60), normalised."""
        return self.patch_embed(feature.permute(0, 2, 3, 1))


def _conv3x3(width_in: int, width_out: int) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 3, padding=1)


def _feed_forward() -> nn.Sequential:
    fc1, fc2 = nn.Linear(CHANNELS, 2 * CHANNELS), nn.Linear(2 * CHANNELS, CHANNELS)
    return nn.Sequential(OrderedDict(fc1=fc1, gelu=nn.GELU(), fc2=fc2))


class Series(nn.ModuleList):
    """Modules in series that all take the mask of shifted windows."""

    def forward(self, x: Union[Tensor, Pair], mask: Tensor) -> Union[Tensor, Pair]:
        for module in self:
            x = module(x, mask)
        return x


class Stage(nn.Module):
    """Attention within one modality: (B, H, W, 60) -> same."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.residual_group = Group(Block, depth)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.residual_group(x, mask)


class CrossStage(nn.Module):
    """Attention within each modality, then across both: two of (B, H, W, 60) -> same."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.residual_group_A, self.residual_group_B = Group(Block, depth), Group(Block, depth)
        self.residual_group = Group(CrossBlock, depth)

    def forward(self, pair: Pair, mask: Tensor) -> Pair:
        return self.residual_group((self.residual_group_A(pair[0], mask), self.residual_group_B(pair[1], mask)), mask)


class Group(nn.Module):
    """Blocks in series, every second one on shifted windows."""

    def __init__(self, block: Type["WindowBlock"], depth: int) -> None:
        super().__init__()
        self.blocks = Series(block(shift=index % 2 * WINDOW // 2) for index in range(depth))

    def forward(self, x: Union[Tensor, Pair], mask: Tensor) -> Union[Tensor, Pair]:
        return self.blocks(x, mask)


class WindowBlock(nn.Module):
    """What the blocks have in common: windows of 8 x 8, shifted by ``shift`` pixels."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        # In the state dict only: forward makes the mask for the actual size.
        self.register_buffer("attn_mask", shift_mask(TRAINED_SIZE, TRAINED_SIZE) if shift else None)

    def to_windows(self, x: Tensor) -> Tensor:
        """Shift and cut: (B, H, W, C) -> (B, N, 64, C), N = H/8 * W/8."""
        return to_windows(x.roll((-self.shift, -self.shift), (1, 2)))

    def from_windows(self, windows: Tensor, height: int, width: int) -> Tensor:
        """Undo ``to_windows``."""
        batch, _, _, channels = windows.shape
        x = windows.reshape(batch, height // WINDOW, width // WINDOW, WINDOW, WINDOW, channels)
        x = x.transpose(2, 3).reshape(batch, height, width, channels)
        return x.roll((self.shift, self.shift), (1, 2))


class Block(WindowBlock):
    """Transformer block of one modality: (B, H, W, 60) -> same."""

    def __init__(self, shift: int) -> None:
        super().__init__(shift)
        self.norm1, self.norm2 = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.attn = SelfAttention()
        self.mlp = _feed_forward()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        windows = self.attn(self.to_windows(self.norm1(x)), mask if self.shift else None)
        x = x + self.from_windows(windows, *x.shape[1:3])
        return x + self.mlp(self.norm2(x))


class CrossBlock(WindowBlock):
    """Transformer block of two modalities, each of which attends to the other: two of (B, H, W, 60) -> same."""

    def __init__(self, shift: int) -> None:
        super().__init__(shift)
        self.norm1_A, self.norm1_B = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.attn_A, self.attn_B = CrossAttention(), CrossAttention()
        self.norm2_A, self.norm2_B = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.mlp_A, self.mlp_B = _feed_forward(), _feed_forward()

    def forward(self, pair: Pair, mask: Tensor) -> Pair:
        x, y = pair
        size = x.shape[1:3]
        windows_x, windows_y = self.to_windows(self.norm1_A(x)), self.to_windows(self.norm1_B(y))
        mask_here = mask if self.shift else None
        x = x + self.from_windows(self.attn_A(windows_x, windows_y, mask_here), *size)
        y = y + self.from_windows(self.attn_B(windows_y, windows_x, mask_here), *size)
        return x + self.mlp_A(self.norm2_A(x)), y + self.mlp_B(self.norm2_B(y))


class WindowAttention(nn.Module):
    """Attention within windows of 64 tokens, with a learned bias by relative position."""

    relative_position_index: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, HEADS))
        place = torch.arange(WINDOW)
        offsets = (x[:, None] - x + WINDOW - 1 for x in (place.repeat_interleave(WINDOW), place.repeat(WINDOW)))
        row_offset, column_offset = offsets
        self.register_buffer("relative_position_index", row_offset * (2 * WINDOW - 1) + column_offset)
        self.softmax = nn.Softmax(dim=-1)
        self.proj = nn.Linear(CHANNELS, CHANNELS)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor]) -> Tensor:
        """q, k, v of (B, N, 64, 60) and a mask of (N, 64, 64) that is added to the scores -> (B, N, 64, 60)."""
        q, k, v = (x.unflatten(-1, (HEADS, CHANNELS // HEADS)).transpose(2, 3) for x in (q, k, v))
        score = (q * (CHANNELS // HEADS) ** -0.5) @ k.transpose(-2, -1)
        score = score + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if mask is not None:
            score = score + mask[:, None]
        return self.proj((self.softmax(score) @ v).transpose(2, 3).flatten(3))


class SelfAttention(WindowAttention):
    """Attention within one modality: (B, N, 64, 60) -> same."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(CHANNELS, 3 * CHANNELS)

    def forward(self, windows: Tensor, mask: Optional[Tensor]) -> Tensor:
        q, k, v = self.qkv(windows).chunk(3, dim=-1)
        return self.attend(q, k, v, mask)


class CrossAttention(WindowAttention):
    """Attention with queries from one modality, keys and values from the other: two of (B, N, 64, 60) -> one."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(CHANNELS, CHANNELS)
        self.kv = nn.Linear(CHANNELS, 2 * CHANNELS)

    def forward(self, asking: Tensor, asked: Tensor, mask: Optional[Tensor]) -> Tensor:
        k, v = self.kv(asked).chunk(2, dim=-1)
        return self.attend(self.q(asking), k, v, mask)


def to_windows(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, H/8 * W/8, 64, C), windows row by row."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return x.transpose(2, 3).reshape(batch, -1, WINDOW * WINDOW, channels)


def shift_mask(height: int, width: int, device: Optional[torch.device] = None) -> Tensor:
    """Return the mask that is added to the scores of shifted windows, (H/8 * W/8, 64, 64).

    0 for two tokens that are neighbours in the image, -100 if only the cyclic shift put them into one window.
    """
    places = (torch.arange(size, device=device) - size + WINDOW for size in (height, width))
    row, column = ((place >= 0).int() + (place >= WINDOW // 2).int() for place in places)
    region = to_windows((3 * row[:, None] + column)[None, :, :, None])[0, :, :, 0]
    return torch.where(region[:, None] != region[:, :, None], -100.0, 0.0)
