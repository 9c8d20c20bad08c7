"""Computes the golden gradients in float64: the heads written anew from the paper, a clip and a head at a time.

    python tests/foal_net/golden/make_gradients.py tests/foal_net/golden/gradients.safetensors

Nothing is padded or masked here: a clip is cut to its valid positions. Before it writes, the script compares
all of its results with the `output.*` of authors_heads.safetensors, which the authors' own layers gave.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


NUM_HEADS, NUM_LAYERS = 4, 2
MATCHING_WEIGHT = 0.1


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    centered = x - x.mean(-1, keepdim=True)
    return centered / (centered.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def log_softmax(x: torch.Tensor) -> torch.Tensor:
    return x - x.exp().sum(-1, keepdim=True).log()


class Heads:
    """Alignment, fusion and the three heads, with golden weights as leaves."""

    def __init__(self, golden: dict[str, torch.Tensor]) -> None:
        self.weights = {
            name.removeprefix("weight."): value.double().requires_grad_()
            for name, value in golden.items()
            if name.startswith("weight.")
        }

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        bias = self.weights.get(f"{name}.bias")
        y = x @ self.weights[f"{name}.weight"].T
        return y if bias is None else y + bias

    def norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return layer_norm(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def embed(self, side: str, sequence: torch.Tensor) -> torch.Tensor:
        """`(positions, width)` to a unit vector."""
        e = self.linear(f"projection.{side}.linear_in", sequence.mean(0))
        gelu = e * 0.5 * (1 + torch.erf(e / 2**0.5))
        y = self.norm(f"projection.{side}.layer_norm", e + self.linear(f"projection.{side}.linear_out", gelu))
        return y / y.pow(2).sum().sqrt()

    def fuse(self, direction: str, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """`(queries, query_width)` looks at `(keys, key_width)`: a vector `(query_width,)`."""
        for layer in range(NUM_LAYERS):
            name = f"fusion.{direction}.{layer}"
            q, k, v = (
                self.linear(f"{name}.{part}", x) for part, x in (("query", queries), ("key", keys), ("value", keys))
            )
            width = q.shape[1] // NUM_HEADS
            attended = []
            for head in range(NUM_HEADS):
                part = slice(head * width, (head + 1) * width)
                weights = log_softmax(q[:, part] @ k[:, part].T / width**0.5).exp()
                attended.append(weights @ v[:, part])
            queries = self.norm(
                f"{name}.layer_norm", queries + self.linear(f"{name}.output", torch.cat(attended, dim=1))
            )
        return queries.mean(0)


def compute(golden: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """All outputs, and the gradients of the total loss by every weight and both sequences."""
    heads, labels = Heads(golden), golden["input.labels"].tolist()
    batch = range(len(labels))
    leaves = {n: golden[f"input.{n}"].double().requires_grad_() for n in ("audio_hidden_states", "video_features")}
    audio = [leaves["audio_hidden_states"][i][golden["input.audio_mask"][i]] for i in batch]
    video = [leaves["video_features"][i][golden["input.video_mask"][i]] for i in batch]
    other_video, other_audio = (golden[f"input.negative_{side}_index"].tolist() for side in ("video", "audio"))

    a, v = (torch.stack([heads.embed(side, x) for x in xs]) for side, xs in (("audio", audio), ("video", video)))
    s_av = a @ v.T / heads.weights["temperature"]
    s_va = v @ a.T / heads.weights["temperature"]
    alignment = torch.zeros((), dtype=torch.float64)
    for scores in (s_av, s_va):
        for i in batch:
            row = log_softmax(scores[i])
            alignment = alignment - sum(row[j] for j in batch if labels[j] == labels[i]) / len(batch) / 2

    def negatives(scores: torch.Tensor) -> torch.Tensor:
        others = [[float(labels[j] != labels[i]) for j in batch] for i in batch]
        weights = scores.exp() * torch.tensor(others, dtype=torch.float64)
        return weights / weights.sum(1, keepdim=True)

    pooled_audio = torch.stack([heads.fuse("audio_queries_video", audio[i], video[i]) for i in batch])
    pooled_video = torch.stack([heads.fuse("video_queries_audio", video[i], audio[i]) for i in batch])
    logits = heads.linear("classifier", torch.cat([pooled_audio, pooled_video], dim=1))
    classification = -sum(log_softmax(logits[i])[labels[i]] for i in batch) / len(batch)

    negative_audio = [heads.fuse("audio_queries_video", audio[i], video[other_video[i]]) for i in batch]
    negative_video = [heads.fuse("video_queries_audio", video[i], audio[other_audio[i]]) for i in batch]
    matching_logits = {
        "audio": heads.linear("matching_head.audio", torch.cat([pooled_audio, torch.stack(negative_audio)])),
        "video": heads.linear("matching_head.video", torch.cat([pooled_video, torch.stack(negative_video)])),
    }
    matching = torch.zeros((), dtype=torch.float64)
    for rows in matching_logits.values():
        right = [log_softmax(row)[1 if i < len(batch) else 0] for i, row in enumerate(rows)]
        matching = matching - sum(right) / len(right) / 2
    total = classification + alignment + MATCHING_WEIGHT * matching
    outputs = {
        "alignment_loss": alignment,
        "audio_embeds": a,
        "classification_loss": classification,
        "logits": logits,
        "matching_logits_audio": matching_logits["audio"],
        "matching_logits_video": matching_logits["video"],
        "matching_loss": matching,
        "negative_weights_audio_to_video": negatives(s_av),
        "negative_weights_video_to_audio": negatives(s_va),
        "pooled_audio": pooled_audio,
        "pooled_video": pooled_video,
        "similarity_audio_to_video": s_av,
        "total_loss": total,
        "video_embeds": v,
    }
    by = {**{f"weight.{n}": w for n, w in heads.weights.items()}, **{f"input.{n}": x for n, x in leaves.items()}}
    gradients = torch.autograd.grad(total, list(by.values()))
    return outputs, dict(zip(by, gradients, strict=True))


def main(path: str) -> None:
    golden = load_file(Path(__file__).with_name("authors_heads.safetensors"))
    outputs, gradients = compute(golden)
    expected = {name.removeprefix("output."): value for name, value in golden.items() if name.startswith("output.")}
    if outputs.keys() != expected.keys():
        raise ValueError(f"Not computed, or not golden: {sorted(outputs.keys() ^ expected.keys())}.")
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name].float(), value, atol=1e-5, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
    save_file({f"gradient.{name}": value.float().contiguous() for name, value in gradients.items()}, path)


if __name__ == "__main__":
    main(sys.argv[1])
