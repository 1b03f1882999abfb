() => {  // Texts whose contrast with what lies behind them is below WCAG 2.2 AA (1.4.3): 4.5, or 3 for large text.
  const parse = (text) => (text.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((value, i) => value * a + under[i] * (1 - a));
  const behind = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) {
      const style = getComputedStyle(one);
      if (style.backgroundImage !== "none") return null;  // no single colour
      layers.push(parse(style.backgroundColor));
    }
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const light = (rgb) => rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const faults = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || !node.checkVisibility({opacityProperty: true, visibilityProperty: true}) || node.closest("[disabled], footer, script, style")) continue;
    const style = getComputedStyle(node), under = behind(node);
    if (!under) continue;
    let opacity = 1;
    for (let one = node; one; one = one.parentElement) opacity *= Number(getComputedStyle(one).opacity);
    const [r, g, b, a = 1] = parse(node instanceof SVGElement && style.fill !== "none" ? style.fill : style.color);
    const [bright, dark] = [light(over([r, g, b, a * opacity], under)), light(under)].sort((x, y) => y - x);
    const ratio = (bright + 0.05) / (dark + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) faults.push(`${text.slice(0, 40)} (${ratio.toFixed(2)})`);
  }
  return faults;
}
