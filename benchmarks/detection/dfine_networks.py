"""D-FINE networks: from a folder of published weights, or with random weights."""

from pathlib import Path
from typing import Any, Dict

from transformers import AutoConfig, DFineConfig, DFineForObjectDetection, HGNetV2Config, logging

from irvis.runtime.errors import FileError, ModelError, one_line

CONFIG, WEIGHTS = "config.json", "model.safetensors"

# Half a million parameters, for a run without published weights; the features are at strides of 8, 16 and 32 pixels.
BACKBONE: Dict[str, Any] = {
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 32, 64, 128],
    "stage_mid_channels": [8, 16, 32, 64],
    "stage_out_channels": [32, 64, 128, 256],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [2, 2, 2, 2],
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [32, 64, 128, 256],
    "use_learnable_affine_block": True,
    "out_indices": [2, 3, 4],
}
SMALL: Dict[str, Any] = {
    "encoder_in_channels": [64, 128, 256],
    "encoder_hidden_dim": 64,
    "encoder_ffn_dim": 128,
    "encoder_attention_heads": 4,
    "hidden_expansion": 0.34,
    "depth_mult": 0.34,
    "d_model": 64,
    "decoder_in_channels": [64, 64, 64],
    "decoder_ffn_dim": 128,
    "decoder_attention_heads": 4,
    "decoder_layers": 2,
    "num_queries": 100,
    "freeze_backbone_batch_norms": False,  # no training has set their statistics
}


def random_network(classes: int) -> DFineForObjectDetection:
    """Return a small network with random weights."""
    return DFineForObjectDetection(DFineConfig(backbone_config=HGNetV2Config(**BACKBONE), num_labels=classes, **SMALL))


def published_network(folder: Path, classes: int) -> DFineForObjectDetection:
    """Return the network of ``config.json`` and ``model.safetensors``, with new classification layers.

    Nothing is downloaded, and no code in the files is run. Raises FileError, ModelError.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileError(f"detector's weights not found: {folder / name}; give a folder with {CONFIG} and {WEIGHTS}")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
        if kind != DFineConfig.model_type:
            raise ModelError(f"{folder / CONFIG} is not a config of D-FINE ({DFineConfig.model_type}). Got {kind}")
        network, said = DFineForObjectDetection.from_pretrained(
            folder,
            num_labels=classes,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except ModelError:
        raise
    except Exception as error:  # the library raises many kinds
        raise ModelError(f"cannot load D-FINE from {folder}: {one_line(error)}") from error
    if said["missing_keys"]:  # the library fills these with random numbers
        raise ModelError(f"{folder / WEIGHTS} lacks weights of D-FINE, such as {min(said['missing_keys'])}")
    return network
