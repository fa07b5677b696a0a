"""Published facts that decide whether a model fits: the size of common models, and the memory of common GPUs, each with source and date.

Models: names|parameters|of them routed experts|of them embedding and head, billions each|precision as published|bytes of a quantized
parameter as published|KV cache of one token over all layers in 16 bits, bytes|source. The KV cache of full attention is 2 x layers with
full attention x KV heads x head size x 2 bytes, of latent attention layers x (rank + rope) x 2; what sliding windows and linear attention
keep besides does not grow with the context. GPUs: names|MiB as the driver reports them|source. `fit` reads both, `capacity` the mixtures.
"""

MODELS = """\
deepseek-r1 deepseek-v3 deepseek-v3.1 deepseek-v3.2|671.0|653.91|1.85|fp8|1|70272|arXiv 2412.19437 and config.json, 2024-12
kimi-k2 kimi-k2-instruct-0905|1026.4|1014.69|2.35|fp8|1|70272|model card and config.json, 2025-07
kimi-k2.5 kimi-k2.6 kimi-k2-thinking|1026.4|1014.69|2.35|int4|0.5625|70272|model card and config.json, 2026-01
glm-5 glm-5.1|744|724.78|1.90|bf16|2|89856|model card and config.json, 2026-02
minimax-m2 minimax-m2.5 minimax-m2.7|228.7|224.68|1.23|fp8|1|253952|model card and config.json, 2026-02
qwen3.5-397b-a17b|397|386.55|2.03|bf16|2|30720|model card and config.json, 2026-02
qwen3-235b-a22b qwen3-235b-a22b-thinking|235.1|227.10|1.25|bf16|2|192512|arXiv 2505.09388 and config.json, 2025-05
qwen3-coder-480b-a35b|480.2|468.08|1.87|bf16|2|253952|model card and config.json, 2025-07
qwen3-30b-a3b qwen3-30b-a3b-thinking|30.5|28.99|0.62|bf16|2|98304|arXiv 2505.09388 and config.json, 2025-05
qwen3-32b|32.8|0|1.56|bf16|2|262144|arXiv 2505.09388 and config.json, 2025-05
qwen3-8b|8.2|0|1.24|bf16|2|147456|arXiv 2505.09388 and config.json, 2025-05
qwen2.5-72b|72.7|0|2.49|bf16|2|327680|arXiv 2412.15115 and config.json, 2024-09
llama-3.1-405b|405.9|0|4.20|bf16|2|516096|arXiv 2407.21783 and config.json, 2024-07
llama-3.1-70b llama-3.3-70b llama-3-70b deepseek-r1-distill-llama-70b|70.6|0|2.10|bf16|2|327680|arXiv 2407.21783 and config.json, 2024-07
llama-3.1-8b llama-3-8b|8.03|0|1.05|bf16|2|131072|arXiv 2407.21783 and config.json, 2024-07
llama-2-70b llama2-70b|69.0|0|0.52|fp16|2|327680|arXiv 2307.09288 and config.json, 2023-07
mixtral-8x7b mixtral-8x7b-v0.1 mixtral-8x7b-instruct-v0.1|46.7|45.10|0.26|bf16|2|131072|arXiv 2401.04088 and config.json, 2024-01
mixtral-8x22b mixtral-8x22b-v0.1 mixtral-8x22b-instruct-v0.1|140.6|135.29|0.39|bf16|2|229376|model card and config.json, 2024-04
gpt-oss-120b|116.8|114.66|1.16|fp4|0.53125|36864|arXiv 2508.10925 and config.json, 2025-08
gpt-oss-20b|20.9|19.11|1.16|fp4|0.53125|24576|arXiv 2508.10925 and config.json, 2025-08
"""

GPUS = """\
A100 A100-80GB A100-SXM4-80GB|81920|NVIDIA A100 datasheet, 80 GB, 2021-06
A100-40GB A100-SXM4-40GB|40960|NVIDIA A100 datasheet, 40 GB, 2020-11
H100 H100-80GB H100-SXM H100-SXM5 H100-PCIE|81559|nvidia-smi in public logs, looked up 2026-11
H100-NVL|95830|nvidia-smi in public logs, looked up 2026-11
H20|97871|nvidia-smi in public logs, looked up 2026-11
H200 H200-SXM|143771|nvidia-smi in public logs, looked up 2026-11
GH200|97871|nvidia-smi in public logs, looked up 2026-11
B200 B200-SXM|183359|nvidia-smi in public logs, looked up 2026-11
B300 B300-SXM|275040|nvidia-smi, in aiconfigurator 0.12.0 of 2026
GB200|189471|nvidia-smi, in aiconfigurator 0.12.0 of 2026
GB300|284208|nvidia-smi, in aiconfigurator 0.12.0 of 2026
RTX-PRO-6000|97887|nvidia-smi, in aiconfigurator 0.12.0 of 2026
L40S L40|46068|nvidia-smi, in aiconfigurator 0.12.0 of 2026
L4|23034|nvidia-smi in public logs, looked up 2026-11
A10G|23028|nvidia-smi in public logs, looked up 2026-11
MI300X|196608|AMD Instinct MI300X data sheet, 192 GB, 2023-12
MI325X|262144|AMD Instinct MI325X data sheet, 256 GB, 2024-10
MI355X|294912|AMD Instinct MI355X data sheet, 288 GB, 2025-06
"""
