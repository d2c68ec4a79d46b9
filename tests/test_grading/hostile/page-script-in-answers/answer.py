# %% <script>alert(1)</script><img src=x onerror=alert(2)>
"""</textarea></pre></script><script>alert(3)</script><svg onload=alert(4)><iframe srcdoc="<script>alert(5)</script>">"""
css = "</style><style>*{background:url(javascript:alert(6))}</style><link rel=stylesheet href=//evil.example/x.css>"

# %% typical
def typical(probs, width):
    """</pre><script>alert(7)</script> <!-- ]]> &lt;script&gt; {{7*7}} ${7*7} <%= 7*7 %> """
    entropy = torch.special.entr(probs).sum(dim=-1, keepdim=True)
    distance = (-probs.log() - entropy).abs()
    limit = distance.amin(dim=-1, keepdim=True).clamp(min=width)
    kept = probs * (distance <= limit)
    return kept / kept.sum(dim=-1, keepdim=True)
