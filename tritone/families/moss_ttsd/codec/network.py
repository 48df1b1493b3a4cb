"""XY_Tokenizer: speech to eight channels of codes at 12.5 Hz and back, as one module and the three stages in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tritone.families.moss_ttsd.codec.config import CodecConfig
from tritone.families.moss_ttsd.codec.decoder import AudioDecoder, Upsample, Vocos
from tritone.families.moss_ttsd.codec.encoder import AudioEncoder, Downsample, code_lengths
from tritone.families.moss_ttsd.codec.layers import Adapter
from tritone.families.moss_ttsd.codec.quantizer import ResidualVectorQuantizer


class XYTokenizer(nn.Module):
    """All networks of the codec under their published names; `Encoder`, `Decoder` and `Vocoder` run parts of it."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        size = config.acoustic_encoder.size
        self.config = config
        self.semantic_encoder = AudioEncoder(config.semantic_encoder)
        self.semantic_encoder_adapter = Adapter(config.semantic_encoder_adapter)
        self.acoustic_encoder = AudioEncoder(config.acoustic_encoder)
        self.pre_rvq_adapter = Adapter(config.pre_rvq_adapter)
        self.downsample = Downsample(size, config.pool)
        self.quantizer = ResidualVectorQuantizer(size * config.pool, config.channels, *config.codebook)
        self.post_rvq_adapter = Adapter(config.post_rvq_adapter)
        self.upsample = Upsample(size, config.pool)
        self.acoustic_decoder = AudioDecoder(config.acoustic_decoder)
        self.enhanced_vocos = Vocos(*config.vocos)


class Encoder(nn.Module):
    """The stage `codec_encoder`: mel frames to codes."""

    def __init__(self, codec: XYTokenizer) -> None:
        super().__init__()
        self.pool = codec.config.pool
        self.semantic_encoder = codec.semantic_encoder
        self.semantic_encoder_adapter = codec.semantic_encoder_adapter
        self.acoustic_encoder = codec.acoustic_encoder
        self.pre_rvq_adapter = codec.pre_rvq_adapter
        self.downsample = codec.downsample
        self.quantizer = codec.quantizer

    def forward(self, mel: Tensor, mel_len: Tensor) -> Tensor:
        """Return codes `[batch, channels, codes]` int64; those past `mel_len // (2 pool)` have no meaning.

        Args:
            mel: `[batch, 80, 2 x pool x codes]`; the frame after a row's last is used and must be one of silence.
            mel_len: `[batch]` int32, the number of frames of each row.
        """
        return self.quantizer(self.features(mel, mel_len))

    def features(self, mel: Tensor, mel_len: Tensor) -> Tensor:
        """Return the vectors to be quantised, `[batch, codes, pool x size]`."""
        hidden, _ = code_lengths(mel_len, self.pool)
        semantic = self.semantic_encoder_adapter(self.semantic_encoder(mel, hidden), hidden)
        acoustic = self.acoustic_encoder(mel, hidden)
        both = self.pre_rvq_adapter(torch.cat([semantic, acoustic], dim=-1), hidden)
        return self.downsample(both)


class Decoder(nn.Module):
    """The stage `codec_decoder`: codes to the mel-like frames of the vocoder."""

    def __init__(self, codec: XYTokenizer) -> None:
        super().__init__()
        self.pool = codec.config.pool
        self.quantizer = codec.quantizer
        self.post_rvq_adapter = codec.post_rvq_adapter
        self.upsample = codec.upsample
        self.acoustic_decoder = codec.acoustic_decoder

    def forward(self, codes: Tensor, codes_len: Tensor) -> Tensor:
        """Return frames `[batch, 80, 2 x pool x codes]` at 100 Hz; those past a row's end have no meaning.

        Args:
            codes: `[batch, channels, codes]` int64.
            codes_len: `[batch]` int32.
        """
        vectors = self.quantizer.decode(codes).to(self.upsample.up_conv.weight.dtype)
        frames = self.upsample(self.post_rvq_adapter(vectors, codes_len))
        return self.acoustic_decoder(frames, codes_len * self.pool)


class Vocoder(nn.Module):
    """The stage `codec_vocoder`: mel-like frames to sound."""

    def __init__(self, codec: XYTokenizer) -> None:
        super().__init__()
        self.enhanced_vocos = codec.enhanced_vocos

    def forward(self, frames: Tensor, frames_len: Tensor) -> Tensor:
        """Return samples `[batch, hop x frames]`, zero past each row's end; `frames_len` is `[batch]` int32."""
        return self.enhanced_vocos(frames, frames_len)
