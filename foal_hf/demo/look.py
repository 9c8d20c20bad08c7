"""How the page of `foal-hf demo` looks, and what it does in the browser: its style sheet and its script.

Colours are gradio's own variables, which follow the light or dark mode of the system; the emotions bring theirs.
"""

STYLE = """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
.foal-notice { border-left: 4px solid #D55E00; padding: 2px 0 2px 14px; font-size: 14px; line-height: 1.45; }
.foal-notice ul { margin: 0; padding-left: 18px; list-style: disc; }
.foal-quiet { color: color-mix(in srgb, var(--body-text-color) 72%, transparent); font-size: 14px; }
.foal-error { border-left: 4px solid #D55E00; padding: 8px 14px; overflow-wrap: anywhere; }

.foal-player { display: none; }
.foal-player video { width: 100%; max-height: 340px; background: #111; border-radius: 6px; display: block; }
.foal-player.has-media { display: block; }
.foal-player.has-sound-only video { height: 54px; background: none; }
.foal-player .foal-quiet { display: none; }
.foal-player.cannot-play .foal-quiet { display: block; }
.foal-player.cannot-play video { display: none; }

.foal-timeline { position: relative; cursor: pointer; user-select: none; }
.foal-timeline svg { display: block; width: 100%; height: 96px; background: var(--background-fill-secondary); }
.foal-strip { position: relative; height: 26px; margin-top: 4px; background: var(--background-fill-secondary); }
.foal-run { position: absolute; top: 0; bottom: 0; overflow: hidden; white-space: nowrap; text-overflow: clip;
  font-size: 12px; line-height: 26px; text-align: center; border-right: 1px solid var(--body-background-fill); }
.foal-playhead { position: absolute; top: 0; bottom: 0; width: 2px; left: 0; background: var(--body-text-color);
  pointer-events: none; }
.foal-ticks { display: flex; justify-content: space-between; font-size: 12px; }
.foal-legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 13px; margin: 4px 0; }
.foal-chip { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 5px; }

.foal-label { font-size: 30px; font-weight: 600; line-height: 1.2; overflow-wrap: anywhere; }
.foal-bar { display: grid; grid-template-columns: minmax(70px, max-content) 1fr 48px; gap: 10px; align-items: center;
  font-size: 14px; margin: 4px 0; }
.foal-track { height: 16px; background: var(--background-fill-secondary); border-radius: 3px; overflow: hidden; }
.foal-track > div { height: 100%; }
.foal-percent { text-align: right; font-variant-numeric: tabular-nums; }
.foal-facts { margin: 4px 0 8px; padding-left: 18px; list-style: disc; font-size: 14px; line-height: 1.5; }
.foal-heading { font-weight: 600; margin: 14px 0 4px; }
.foal-download { display: inline-block; padding: 5px 14px; margin: 4px 8px 4px 0; border-radius: 6px; font-size: 14px;
  border: 1px solid var(--border-color-primary); color: var(--body-text-color) !important;
  text-decoration: none !important; background: var(--button-secondary-background-fill); }

.foal-table { max-height: 360px; overflow: auto; }
.foal-table table { width: 100%; font-size: 14px; }
.foal-table table, .foal-table tr, .foal-table th, .foal-table td {
  border-width: 0 !important; border-color: var(--border-color-primary) !important; }
.foal-table th, .foal-table td { padding: 4px 12px 4px 0 !important; white-space: nowrap;
  border-bottom-width: 1px !important; }
.foal-table th { position: sticky; top: 0; background: var(--body-background-fill); }
.foal-table tr[data-seconds] { cursor: pointer; }
"""

# The recording is played from the browser's own copy, so that the server's copy can go as soon as it was judged.
SHOW_MEDIA = """
async (media, ...settings) => {
  const box = document.querySelector(".foal-player");
  const player = box && box.querySelector("video");
  if (media && player) {
    try {
      const copy = await (await fetch(media.url)).blob();
      if (player.src) URL.revokeObjectURL(player.src);
      box.className = "foal-player has-media";
      player.src = URL.createObjectURL(copy);
    } catch (error) {
      box.className = "foal-player has-media cannot-play";
    }
  }
  return [media, ...settings];
}
"""

SCRIPT = """
(() => {
  const player = () => document.querySelector(".foal-player video");
  const onPlayer = (name, act) => document.addEventListener(name, (event) => {
    if (event.target === player()) act(event.target, event.target.closest(".foal-player"));
  }, true);  // events of media do not bubble

  onPlayer("loadedmetadata", (video, box) => box.classList.toggle("has-sound-only", !video.videoWidth));
  onPlayer("error", (video, box) => box.classList.add("cannot-play"));
  for (const name of ["timeupdate", "seeking"]) onPlayer(name, (video) => {
    const line = document.querySelector(".foal-timeline");
    if (!line) return;
    const share = (video.currentTime - line.dataset.start) / (line.dataset.end - line.dataset.start);
    line.querySelector(".foal-playhead").style.left = `${100 * Math.min(Math.max(share, 0), 1)}%`;
  });

  document.addEventListener("click", (event) => {
    const video = player();
    if (!video || !event.target.closest) return;
    const line = event.target.closest(".foal-timeline");
    const row = event.target.closest("[data-seconds]");
    if (line) {
      const place = line.getBoundingClientRect();
      const share = (event.clientX - place.left) / place.width;
      video.currentTime = Number(line.dataset.start) + share * (line.dataset.end - line.dataset.start);
    } else if (row) {
      video.currentTime = Number(row.dataset.seconds);
    }
  });
})();
"""

PLAYER = """
<div class="foal-player">
  <video controls playsinline></video>
  <p class="foal-quiet">This browser cannot play the recording. The answer does not depend on that.</p>
</div>
"""


__all__ = ["PLAYER", "SCRIPT", "SHOW_MEDIA", "STYLE"]
