"""The pictures of the chat page in docs/images, of the quickstart's model behind a running server:

beichen serve runs/quickstart-001 --ui
python -m tests.docs.page_pictures http://127.0.0.1:8000

The answer on the phone is a written one; all others are the model's.
"""

from __future__ import annotations

import sys
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.chromium import MISSING, find_chromium
from tests.serve.page.scripted import Script, ask, ended, stream
from tests.shared_data import REPOSITORY

IMAGES = REPOSITORY / "docs" / "images"
DESK: dict[str, Any] = {"viewport": {"width": 1000, "height": 640}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
CHINESE = ["1公里等于多少米？", "把 5、2、9 从小到大排序。", "星期三再过四天是星期几？", "三十七加二十五等于多少？", "你好，你是谁？"]
ENGLISH = ["Sort 5, 2, 9.", "What is 90 - 34?", "Translate to Chinese: cat", "Who are you?", "What is 6 + 7?"]
THOUGHT = "先写标准形式，再配方。"
FORMULAS = r"""设方程为 $ax^2 + bx + c = 0$，其中 $a \neq 0$，**求根公式**是：

$$x_{1,2} = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}$$

| 判别式 $\Delta = b^2 - 4ac$ | 实根 |
|---|---|
| $\Delta > 0$ | 两个 |
| $\Delta = 0$ | 一个 |
| $\Delta < 0$ | 没有 |

```python
def roots(a: float, b: float, c: float) -> tuple[float, float]:
    d = (b * b - 4 * a * c) ** 0.5  # 判别式的平方根
    return (-b + d) / (2 * a), (-b - d) / (2 * a)
```
"""


def opened(browser: Browser, url: str, **options: Any) -> Page:
    page = browser.new_context(**options).new_page()
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    return page


def talked(page: Page, *dialogues: list[str]) -> None:
    """A conversation for each list of questions."""
    for questions in dialogues:
        page.click("#new")
        for number, question in enumerate(questions, 1):
            ask(page, question)
            ended(page, answers=number)
    page.mouse.move(600, 500)  # over nothing that would show it


def take(browser: Browser, url: str) -> None:
    chinese = opened(browser, url, locale="zh-CN", **DESK)
    talked(chinese, *([one] for one in CHINESE), ["27 + 46 = ?", "85减去38等于多少？"])
    chinese.screenshot(path=IMAGES / "page-zh.png")
    english = opened(browser, url, locale="en-GB", color_scheme="dark", **DESK)
    talked(english, *([one] for one in ENGLISH), ["27 + 46 = ?", "What is 58 plus 17?"])
    english.screenshot(path=IMAGES / "page-dark.png")
    english.click("#settings")
    english.fill("#set-temperature", "0.7")
    english.press("#set-temperature", "Tab")
    english.screenshot(path=IMAGES / "page-settings.png")
    phone = opened(browser, url, locale="zh-CN", **PHONE)
    Script(phone, stream(FORMULAS, thought=THOUGHT))
    ask(phone, "怎么解二次方程？")
    ended(phone)
    phone.evaluate("document.querySelector('.figures').remove()")  # nothing was computed
    phone.screenshot(path=IMAGES / "page-phone.png")


if __name__ == "__main__":
    program = find_chromium()
    if program is None:
        sys.exit(MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        take(browser, sys.argv[1])
        browser.close()
