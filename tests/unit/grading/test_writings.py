"""Ways to write an answer: right ones beside ones that only look like it. Both graders have to agree."""

from __future__ import annotations

import pytest

from tests.unit.grading.grading_here import boxed, verdicts

#: Reference, right answers, wrong answers, each parted by " ;; ".
BOXES = [
    (r"\frac{9}{4}", r"2 1/4 ;; 2\tfrac{1}{4} ;; \text{2 1/4} ;; 2\;1/4", r"21/4 ;; 2 4/1 ;; 1 2/4"),
    (r"-\frac{9}{4}", r"-2 1/4 ;; -2\frac14", r"2 1/4 ;; -21/4"),
    ("46", r"\mathbf 4\mathbf 6 ;; 46. ;; \,46\,", r"4 6 ;; 4\quad 6 ;; 4\ 6"),
    (r"\sin 40^\circ", r"\cos 50^\circ ;; \sin(40°) ;; \sin\frac{2\pi}{9}", r"\sin 40 ;; \cos 40^\circ"),
    (r"49\pi", r"49\pi\text{ square units} ;; 49 \pi \, \mathrm{m^2} ;; 49π cm²", r"49\text{ cm} ;; 48\pi"),
    ("n!", r"n!\text{ ways}", r"(n+1)!\text{ ways}"),
    ("21", r"\textbf{(D)}\ 21 ;; (D) 21 ;; D: 21 ;; \text{D) } 21", r"\textbf{(D)}\ 22 ;; D"),
    ("D", r"\textbf{(D)}\ 21 ;; \text{Option D} ;; D) ;; \mathbf{D}", r"\textbf{(E)}\ 21 ;; E"),
    (r"\gamma^2-9", r"(\gamma-3)(\gamma+3) ;; γ^2-9", r"\gamma^2-8 ;; \Gamma^2-9 ;; g^2-9"),
    (
        "12",
        r"12\text{ pencils} ;; 12 blue pencils ;; \text{twelve} ;; 12\text{ (twelve)} ;; 1 \text{ dozen}",
        r"12 \text{ thousand} ;; 12\text{ dozen} ;; 12\text{ tenths} ;; 12\text{ and a half} ;; "
        r"12\text{ or more} ;; \text{negative }12 ;; \text{less than }12 ;; 12万 ;; 12\text{ base }7",
    ),
    ("-12", r"\text{negative } 12 ;; \text{minus }12", "12"),
    ("3400000", r"3.4\text{ million} ;; \$3.4 \text{ million}", r"3.4\text{ billion} ;; 3.4"),
    ("2,2,5", "5,2,2 ;; 2, 5, 2", r"2,5,5 ;; 2,5 ;; \{2,5\}"),
    (r"\{4,7\}", r"\lbrace 7,4 \rbrace ;; 4,7", "(4,7) ;; [4,7]"),
    ("(4,7)", r"\langle 4,7\rangle ;; x=4,y=7 ;; (x,y)=(4,7) ;; \begin{pmatrix}4\\7\end{pmatrix}", "y=4,x=7"),
    ("6i", r"3i(1+i)(1-i) ;; 6e^{i\pi/2} ;; \sqrt{-36} ;; 6\mathrm{i}", "-6i ;; 6"),
    (r"\frac49", r"0.\overline{4} ;; 0.\dot 4 ;; 0.(4) ;; 0.444\ldots ;; .\overline{4}", r"0.4 ;; 0.44\ldots5"),
    ("8", r"{\color{red}8} ;; \underline{\textbf{8}} ;; \huge{8} ;; 8\tag*{} ;; \fcolorbox{red}{white}{8}", "80"),
    (r"3\pm\sqrt2", r"3-\sqrt2,3+\sqrt2 ;; \{3\pm\sqrt2\} ;; x=3\pm\sqrt2", r"3+\sqrt2 ;; 2\pm\sqrt3"),
    (
        r"x<1\text{ or }x>4",
        r"(-\infty,1)\cup(4,\infty) ;; x > 4 or x < 1 ;; \mathbb{R}\setminus[1,4] ;; \{x: x<1 \text{ or } x>4\}",
        r"x<1\text{ and }x>4 ;; 1<x<4 ;; x\le1\text{ or }x>4 ;; x<4\text{ or }x>1",
    ),
    ("(1,6)", r"1<x<6 ;; x>1 \text{ and } x<6 ;; 6>x>1", r"\{1,6\} ;; (6,1) ;; [1,6)"),
    (r"(-\infty,3)\cup(3,\infty)", r"x\ne 3 ;; \mathbb{R}\setminus\{3\}", r"\mathbb{R} ;; x=3"),
    ("(-2,2)", "|x|<2", r"|x|\le2 ;; |x|>2"),
    (r"\emptyset", r"\text{There are no solutions.} ;; x\in\emptyset ;; \text{none}", r"0 ;; \{0\} ;; \text{one}"),
    (r"\mathbb{R}", r"ℝ ;; \text{all real } x ;; -\infty<x<\infty", r"\mathbb{Z} ;; \text{all integers}"),
    ("2:5:7", r"4:10:14 ;; 2\text{ to }5\text{ to }7 ;; 1:\frac52:\frac72", r"2:7:5 ;; 2:5 ;; \frac{2}{35}"),
    (
        "3^{n-1}",
        r"3^{n-1} \text{ for } n \ge 1 ;; 3^{n-1}, n\geq 1 ;; a_n=3^{n-1}, \text{ where } n>0",
        r"3^n\text{ for }n\ge1 ;; 3n-1",
    ),
    (
        "31",
        r"\text{about }31 ;; \text{The number of ways is } 31 ;; n\approx 31 ;; \text{There are } 31 \text{ ways}",
        r"\text{The answer is not } 31 ;; 31\text{ or }32 ;; \text{more than }31",
    ),
    (r"6\pi", r"6\pi\approx 18.85 ;; A=6\pi\text{ cm}^2 ;; 18.8496 ;; 6*pi", r"18.85 ;; 7\pi\approx 18.85"),
    ("1.6", r"\phi \approx 1.6", r"1.62"),
    (
        "4.2",
        r"4.2\ \mathrm{m\,s}^{-2} ;; 4.2 \frac{\text{m}}{\text{s}^2} ;; 4.2\,\mu\mathrm{m} ;; 4.2 \frac{m}{s^2}",
        r"4.3\text{ m/s}^2 ;; 4.2 \times 10^{2}\ \mathrm{m}",
    ),
    (r"60\text{ mph}", r"60\ \frac{\text{miles}}{\text{hour}} ;; 60 \text{ mi/h}", r"60 \text{ km/h} ;; 60\text{ miles}"),
    (r"7\text{ cm}", "7 centimeters ;; 7cm ;; 7", r"7\text{ m} ;; 7 m ;; 7\text{ cm}^2 ;; 7 \text{ dollars} ;; 7mm"),
    (r"50^\circ", r"50 ;; 50\text{ degrees} ;; \angle A = 50^\circ", r"50\text{ rad} ;; 51^\circ"),
    (r"\$9", r"9\text{ dollars} ;; \$9.00", r"9\text{ cents} ;; €9"),
    (r"8:20 \text{ PM}", r"8:20 p.m. ;; \text{8:20 PM} ;; 8{:}20\text{ p.m.}", r"8:20\text{ am} ;; 8:21 PM ;; 8:20"),
    ("0.4", r"P(A|B)=0.4 ;; \|v\|_2=0.4 ;; \lim_{n\to\infty} a_n = 0.4 ;; \bar{X} = 0.4 ;; a+b=0.4", r"5x=0.4"),
    ("16", r"n=16 ;; \sum_{k=1}^4 (2k-1) = 16", r"2^n=16 ;; x^2=16 ;; x+1=16 ;; n!=16"),
    ("36", r"\sum_{i=1}^{8} i ;; \frac{8\cdot9}{2}", r"\sum_{i=1}^{9} i"),
    ("north", r"\text{the north} ;; North. ;; \textbf{north}", "thorn ;; \\text{north east}"),
    ("no", r"\text{No.} ;; NO", r"on ;; \text{yes}"),
    ("61_8", r"(61)_8 ;; 61_{\text{eight}} ;; 61₈ ;; 61_{(8)} ;; 61_{\text{base }8}", "61 ;; 49 ;; (61)_{9}"),
    (r"-\infty", r"\text{negative infinity} ;; -∞", r"\infty ;; +\infty"),
    (r"83\frac13\%", r"\frac56 ;; 83 1/3\% ;; 83.\overline{3}\%", r"83\% ;; 83.3\%"),
    (r"5\sqrt6", "5√6 ;; 5sqrt(6) ;; √(150) ;; 12.2474", "6√5 ;; 12.247"),
    ("y_3", "y₃", "y₂ ;; y"),
    ("f(x)=x+2", "y=x+2", "y=x+3"),
    ("x=5", "5", "y=5"),
    ("4,6", r"4或6 ;; 4、6 ;; x_1=4, x_2=6 ;; x \in \{4,6\}", "4或7 ;; 4"),
]
STATED = [
    ("9", "The answer is 9 screws. ;; The answer is nine (9) screws. ;; So he needs 9 screws.", "The answer is 8 screws."),
    ("9", "The answer is 9 (nine). ;; Answer: 9 screws and that is it ;; The answer is 9, since 18/2 = 9.", "It is 90."),
    ("3/5", r"The chance is 3/5. ;; \frac{3}{5} ;; The chance is \frac{3}{5}. ;; = \frac{3}{5}", "It is 3/50."),
    ("3", "", "The chance is 3/5."),
    ("4,7", "The roots of the equation are 4 and 7. ;; So $x=4$ or $7$. ;; Thus x = 4 or x = 7.", "The roots are 4 and 8."),
    ("64", "60+4=64⏎#### 64⏎That leaves 3. ;; #### 64 pens ;; #### 3. Add both⏎60+4 = 64", "#### 65⏎not 64"),
    ("64", "<answer>64</answer> ;; <|im_start|>assistant⏎It is 64.<|im_end|>⏎<|im_start|>user⏎5?", "It is 6.<|im_end|>64"),
    ("64", r"\boxed{64}<|im_end|>⏎<|im_start|>user⏎\boxed{7}", "64 or 65"),
    ("(2,-5)", "The point is (2, -5). ;; (2, -5)", "The point is (2, 5). ;; -5"),
    (r"4:30 \text{ PM}", "She comes home at 4:30 PM. ;; The answer is 4:30 p.m.", "She comes home at 4:30 AM."),
    ("5", "所以答案为5。 ;; 一共有5个苹果。", "答案是6。"),
    ("12", "The answer is (C) 12. ;; The answer is C. 12", "The answer is (C) 13."),
    ("7", "The answer is 7. I hope this answer helps.", "The values are 3 and 7."),
]


def rows(table: list[tuple[str, str, str]]) -> list[tuple[str, str, bool]]:
    return [
        (gold, answer.replace("⏎", "\n"), expected)
        for gold, good, bad in table
        for answers, expected in ((good, True), (bad, False))
        for answer in answers.split(" ;; ")
        if answer
    ]


@pytest.mark.parametrize(("gold", "answer", "expected"), rows(BOXES))
def test_answers_in_a_box(gold: str, answer: str, expected: bool) -> None:
    assert [said == "right" for said in boxed(gold, answer)] == [expected, expected]


@pytest.mark.parametrize(("gold", "response", "expected"), rows(STATED))
def test_answers_without_a_box(gold: str, response: str, expected: bool) -> None:
    assert [said == "right" for said in verdicts(gold, response)] == [expected, expected]
