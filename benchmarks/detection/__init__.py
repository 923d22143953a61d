"""Object detection on fused images: the downstream task of the paper's section 4.7."""
