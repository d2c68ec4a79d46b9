# %% typical
def typical(probs, width):
    entropy = torch.special.entr(probs).sum(dim=-1, keepdim=True)
    distance = (-probs.log() - entropy).abs()
    limit = distance.amin(dim=-1, keepdim=True).clamp(min=width)
    kept = probs * (distance <= limit)
    answer = kept / kept.sum(dim=-1, keepdim=True)
    probs.zero_()
    return answer
